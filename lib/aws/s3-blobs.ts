import type { BlobStore } from "../checkpoint/blobs";
import { type ObjectName, type ObjectStore, parseObjectName } from "./s3";

/** Objects below a prefix as blob store. S3 writes an object whole or not at all. */
export class S3Blobs implements BlobStore {
  private readonly base: ObjectName;

  /** @param location `s3://bucket[/prefix]`. Throws ObjectNameError. */
  constructor(
    location: string,
    private readonly store: ObjectStore,
  ) {
    const { bucket, key } = parseObjectName(location);
    this.base = { bucket, key: key === "" || key.endsWith("/") ? key : `${key}/` };
  }

  put(name: string, data: Uint8Array): Promise<void> {
    return this.store.put(this.base.bucket, this.base.key + name, data);
  }

  get(name: string): Promise<Buffer | undefined> {
    return this.store.get(this.base.bucket, this.base.key + name);
  }

  delete(name: string): Promise<void> {
    return this.store.remove(this.base.bucket, this.base.key + name);
  }

  async list(prefix: string): Promise<string[]> {
    const keys = await this.store.list(this.base.bucket, this.base.key + prefix);
    return keys.map((key) => key.slice(this.base.key.length));
  }
}
