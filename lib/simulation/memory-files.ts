import type { BlobStore } from "../checkpoint/blobs";
import type { FileStore } from "../checkpoint/files";

/** Blobs in memory. */
export class MemoryBlobs implements BlobStore {
  readonly blobs = new Map<string, Buffer>();

  async put(name: string, data: Uint8Array): Promise<void> {
    this.blobs.set(name, Buffer.from(data));
  }

  async get(name: string): Promise<Buffer | undefined> {
    return this.blobs.get(name);
  }

  async delete(name: string): Promise<void> {
    this.blobs.delete(name);
  }

  async list(prefix: string): Promise<string[]> {
    return [...this.blobs.keys()].filter((name) => name.startsWith(prefix));
  }
}

/** Text output in memory; what is published is visible. */
export class MemoryFiles implements FileStore {
  private readonly temporary = new Map<string, string>();
  readonly published = new Map<string, string>();
  /** What a reader of final names would have seen go wrong. */
  readonly problems: string[] = [];

  checkName(): void {}

  async writeTemporary(name: string, data: Uint8Array): Promise<void> {
    this.temporary.set(name, Buffer.from(data).toString("utf8"));
  }

  async publish(temporary: string, final: string): Promise<void> {
    const text = this.temporary.get(temporary);
    if (text === undefined) {
      if (!this.published.has(final)) throw new Error(`${temporary} is gone, and ${final} is not there`);
      return;
    }
    const before = this.published.get(final);
    if (before !== undefined && before !== text)
      this.problems.push(`${final} was published with two contents`);
    this.published.set(final, text);
    this.temporary.delete(temporary);
  }

  async listTemporary(prefix: string): Promise<string[]> {
    return [...this.temporary.keys()].filter((name) => name.startsWith(prefix));
  }

  async removeTemporary(name: string): Promise<void> {
    this.temporary.delete(name);
  }
}
