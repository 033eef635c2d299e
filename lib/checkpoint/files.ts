// Node loads these with their first use, and a deployed function, whose files lie in S3, has none.
import { promises as disk } from "node:fs";
import { dirname, isAbsolute, join, normalize, sep } from "node:path";

/**
 * Where text output goes. A file is written whole under a temporary name, listed in the commit, and given its
 * final name afterwards; the store never decides whether something happened.
 */
export interface FileStore {
  /** Throws {@link OutputNameError} where a file of that final name can't be stored here. */
  checkName(final: string): void;
  /** Writes the file under a temporary name, durably, before it returns. */
  writeTemporary(name: string, data: Uint8Array): Promise<void>;
  /**
   * Gives the file its final name. Done before is done: it may be repeated. A store may keep the temporary file until
   * {@link removeTemporary}. Throws {@link TemporaryFileGoneError} where it cannot know that it was done before.
   */
  publish(temporary: string, final: string): Promise<void>;
  /** Temporary names that begin with `prefix`. */
  listTemporary(prefix: string): Promise<string[]>;
  /** Removes a temporary file; absent is fine. */
  removeTemporary(name: string): Promise<void>;
}

/** An output name that this store does not take. Terminal. */
export class OutputNameError extends Error {
  override readonly name = "OutputNameError";
}

/**
 * A temporary file does not exist: another process has published and removed it, or it was deleted. Whether its entry
 * is still among the outputs tells which.
 */
export class TemporaryFileGoneError extends Error {
  override readonly name = "TemporaryFileGoneError";
}

const TEMPORARY_FOLDER = ".temporary";

/** A folder as file store: final names are relative paths below it. */
export class DirectoryFiles implements FileStore {
  constructor(readonly folder: string) {}

  checkName(final: string): void {
    if (/^[a-z][a-z0-9+.-]*:\/\//i.test(final)) {
      throw new OutputNameError(
        `"${final}": text goes to the folder ${this.folder}, which takes no URLs. Use a relative prefix, or set BEAMKEEPER_OUTPUT to s3://bucket/prefix.`,
      );
    }
    const path = normalize(final);
    if (
      isAbsolute(path) ||
      path === ".." ||
      path.startsWith(`..${sep}`) ||
      path.startsWith(TEMPORARY_FOLDER)
    ) {
      throw new OutputNameError(
        `"${final}": output names are relative to the output folder (${this.folder}) and stay below it.`,
      );
    }
  }

  async writeTemporary(name: string, data: Uint8Array): Promise<void> {
    const path = this.temporaryPath(name);
    await disk.mkdir(dirname(path), { recursive: true });
    const file = await disk.open(path, "w");
    try {
      await file.writeFile(data);
      await file.sync();
    } finally {
      await file.close();
    }
  }

  async publish(temporary: string, final: string): Promise<void> {
    this.checkName(final);
    const target = join(this.folder, final);
    await disk.mkdir(dirname(target), { recursive: true });
    try {
      await disk.rename(this.temporaryPath(temporary), target);
    } catch (error) {
      if (!isAbsent(error) || !(await exists(target))) throw error;
    }
  }

  async listTemporary(prefix: string): Promise<string[]> {
    try {
      return (await disk.readdir(join(this.folder, TEMPORARY_FOLDER))).filter((name) =>
        name.startsWith(prefix),
      );
    } catch (error) {
      if (isAbsent(error)) return [];
      throw error;
    }
  }

  async removeTemporary(name: string): Promise<void> {
    await disk.rm(this.temporaryPath(name), { force: true });
  }

  private temporaryPath(name: string): string {
    return join(this.folder, TEMPORARY_FOLDER, name);
  }
}

function isAbsent(error: unknown): boolean {
  return (error as NodeJS.ErrnoException | null)?.code === "ENOENT";
}

async function exists(path: string): Promise<boolean> {
  return disk.stat(path).then(
    () => true,
    () => false,
  );
}
