import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Spool } from "../beam/api";

/**
 * A folder of this machine's temporary files, one for each entry. It is made when something is first written; what is
 * in it is a copy of what the checkpoint holds, and is worth nothing to another process.
 */
export class FolderSpool implements Spool {
  private folder: string | undefined;
  private last = 0;

  write(bytes: Uint8Array): number {
    this.folder ??= mkdtempSync(join(tmpdir(), "beamkeeper-spool-"));
    writeFileSync(this.path(++this.last), bytes);
    return this.last;
  }

  read(handle: number): Uint8Array {
    return readFileSync(this.path(handle));
  }

  free(handle: number): void {
    rmSync(this.path(handle), { force: true });
  }

  /** Removes the folder; entries are then gone. */
  close(): void {
    if (this.folder !== undefined) rmSync(this.folder, { recursive: true, force: true });
    this.folder = undefined;
  }

  private path(handle: number): string {
    return join(this.folder ?? "", `${handle}`);
  }
}
