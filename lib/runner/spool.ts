import { closeSync, ftruncateSync, mkdtempSync, openSync, readSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Spool } from "../beam/api";

/** A part of the file, in bytes. */
interface Extent {
  readonly from: number;
  readonly length: number;
}

/**
 * A file among this machine's temporary ones that has no name any more once it is open, so that nothing of it is left
 * behind, however the process ends. It is made when something is first written; what is in it is a copy of what the
 * checkpoint holds, and is worth nothing to another process. Room that was freed is used again.
 */
export class FileSpool implements Spool {
  private file: number | undefined;
  private readonly entries = new Map<number, Extent>();
  /** What is free before the end, in the order of the places; no two of them touch. */
  private gaps: Extent[] = [];
  private end = 0;
  private last = 0;

  /** Of the file, in bytes. */
  get size(): number {
    return this.end;
  }

  write(bytes: Uint8Array): number {
    this.file ??= openNameless();
    const extent = { from: this.claim(bytes.length), length: bytes.length };
    for (let done = 0; done < bytes.length; )
      done += writeSync(this.file, bytes, done, bytes.length - done, extent.from + done);
    this.entries.set(++this.last, extent);
    return this.last;
  }

  read(handle: number): Uint8Array {
    const { from, length } = this.entries.get(handle)!;
    const bytes = Buffer.allocUnsafe(length);
    for (let done = 0; done < length; ) {
      const count = readSync(this.file!, bytes, done, length - done, from + done);
      if (count === 0)
        throw new Error(`the temporary file of a shard ends at ${from + done}, before ${from + length}`);
      done += count;
    }
    return bytes;
  }

  free(handle: number): void {
    const freed = this.entries.get(handle);
    if (freed === undefined) return;
    this.entries.delete(handle);
    const before = this.gaps.filter(({ from }) => from < freed.from);
    const after = this.gaps.slice(before.length);
    const left = before.at(-1);
    const right = after[0];
    const from = left && left.from + left.length === freed.from ? before.pop()!.from : freed.from;
    const end = freed.from + freed.length;
    const until = right?.from === end ? end + after.shift()!.length : end;
    if (until === this.end) {
      this.end = from;
      this.gaps = before;
      ftruncateSync(this.file!, from);
    } else this.gaps = [...before, { from, length: until - from }, ...after];
  }

  /** Gives the room back; entries are then gone. */
  close(): void {
    if (this.file !== undefined) closeSync(this.file);
    this.file = undefined;
    this.entries.clear();
    this.gaps = [];
    this.end = 0;
  }

  /** The first gap that is large enough, else the end. */
  private claim(length: number): number {
    const index = this.gaps.findIndex((gap) => gap.length >= length);
    if (index < 0) {
      this.end += length;
      return this.end - length;
    }
    const { from, length: room } = this.gaps[index]!;
    const rest = room === length ? [] : [{ from: from + length, length: room - length }];
    this.gaps.splice(index, 1, ...rest);
    return from;
  }
}

/** Opens a new file and takes its name away: the system frees it with the last descriptor. */
function openNameless(): number {
  const folder = mkdtempSync(join(tmpdir(), "beamkeeper-spool-"));
  try {
    return openSync(join(folder, "values"), "wx+", 0o600);
  } finally {
    rmSync(folder, { recursive: true });
  }
}
