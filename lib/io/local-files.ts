import type { Dirent, Stats } from "node:fs";
// Node loads `disk` with its first use.
import { promises as disk } from "node:fs";
import type { FileHandle } from "node:fs/promises";
import { dirname } from "node:path";
import type { InputFile, InputFiles } from "../beam/splittable";
import { byName, parsePattern } from "./file-pattern";
import { InputFileError, InputUnavailableError } from "./input-errors";

const CHUNK_BYTES = 1024 * 1024;

/** The files of this machine; names that are not absolute are relative to the working directory. */
export class LocalFiles implements InputFiles {
  async list(pattern: string): Promise<InputFile[]> {
    if (/^[a-z][a-z0-9+.-]*:\/\//i.test(pattern))
      throw new InputFileError(
        `"${pattern}" is a URL of a kind that cannot be read here; use a path, or s3://bucket/key`,
      );
    const { prefix, matches } = parsePattern(pattern);
    if (matches === undefined) return this.listOne(pattern);
    const folder = prefix.includes("/") ? prefix.slice(0, prefix.lastIndexOf("/") + 1) : "";
    const found: InputFile[] = [];
    for await (const name of namesBelow(folder)) {
      if (!matches.test(name)) continue;
      const stats = await statOf(name);
      if (stats?.isFile()) found.push(toFile(name, stats));
    }
    return found.sort(byName);
  }

  private async listOne(name: string): Promise<InputFile[]> {
    const stats = await statOf(name);
    if (stats?.isDirectory()) return this.list(`${name}/`);
    return stats?.isFile() ? [toFile(name, stats)] : [];
  }

  async *read(file: InputFile, from: number, to = file.sizeBytes): AsyncGenerator<Buffer> {
    const handle = await openSame(file);
    try {
      for (let at = from; at < to; ) {
        const buffer = Buffer.allocUnsafe(Math.min(CHUNK_BYTES, to - at));
        const { bytesRead } = await handle.read(buffer, 0, buffer.length, at);
        if (bytesRead === 0) throw changed(file);
        at += bytesRead;
        yield buffer.subarray(0, bytesRead);
      }
    } catch (error) {
      throw toInputError(error, file.name);
    } finally {
      await handle.close();
    }
  }
}

/** A file is not the same any more when it was written or replaced. */
async function openSame(file: InputFile): Promise<FileHandle> {
  let handle: FileHandle;
  try {
    handle = await disk.open(file.name, "r");
  } catch (error) {
    throw toInputError(error, file.name);
  }
  const now = await handle.stat();
  if (toFile(file.name, now).version === file.version) return handle;
  await handle.close();
  throw changed(file);
}

function changed({ name }: InputFile): InputFileError {
  return new InputFileError(
    `${name} has changed since its reading began, so what was read may not be in it; write files under other names and rename them`,
  );
}

function toFile(name: string, { size, mtimeMs, ino }: Stats): InputFile {
  return { name, sizeBytes: size, version: `${size}-${Math.round(mtimeMs)}-${ino}` };
}

async function statOf(name: string): Promise<Stats | undefined> {
  try {
    return await disk.stat(name);
  } catch (error) {
    if (codeOf(error) === "ENOENT" || codeOf(error) === "ENOTDIR") return undefined;
    throw toInputError(error, name);
  }
}

async function* namesBelow(folder: string): AsyncGenerator<string> {
  let entries: Dirent[];
  try {
    entries = await disk.readdir(folder === "" ? "." : folder, { withFileTypes: true });
  } catch (error) {
    if (codeOf(error) === "ENOENT" || codeOf(error) === "ENOTDIR") return;
    throw toInputError(error, dirname(folder));
  }
  for (const entry of entries) {
    if (entry.name.startsWith(".")) continue;
    if (entry.isDirectory()) yield* namesBelow(`${folder}${entry.name}/`);
    else yield `${folder}${entry.name}`;
  }
}

function codeOf(error: unknown): string | undefined {
  return (error as NodeJS.ErrnoException | null)?.code;
}

const GONE: ReadonlySet<string | undefined> = new Set(["ENOENT", "ENOTDIR", "EISDIR", "EACCES", "EPERM"]);

function toInputError(error: unknown, name: string): Error {
  if (error instanceof InputFileError) return error;
  const { message } = error as Error;
  if (GONE.has(codeOf(error))) return new InputFileError(`${name} cannot be read: ${message}`);
  return new InputUnavailableError(`${name}: ${message}`, { cause: error });
}
