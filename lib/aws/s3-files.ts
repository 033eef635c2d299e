import { type FileStore, OutputNameError, TemporaryFileGoneError } from "../checkpoint/files";
import { type ObjectName, ObjectNameError, type ObjectStore, parseObjectName } from "./s3";

const TEMPORARY = ".temporary";

/**
 * S3 as file store. Names are relative to `s3://bucket/prefix`, or S3 URLs of their own.
 *
 * S3 has no rename: publishing copies the temporary object, which S3 does as a whole, and leaves it; the caller removes
 * it when nothing refers to it any more. So publishing may be repeated at any time, also after a consumer has taken the
 * final object away.
 */
export class S3Files implements FileStore {
  private readonly base: ObjectName;

  /** @param output `s3://bucket[/prefix]`: where relative names and temporary objects go. Throws ObjectNameError. */
  constructor(
    output: string,
    private readonly store: ObjectStore,
  ) {
    const { bucket, key } = parseObjectName(output);
    this.base = { bucket, key: key.replace(/\/$/, "") };
  }

  checkName(final: string): void {
    this.resolve(final);
  }

  async writeTemporary(name: string, data: Uint8Array): Promise<void> {
    await this.store.put(this.base.bucket, this.temporaryKey(name), data);
  }

  async publish(temporary: string, final: string): Promise<void> {
    const from = { bucket: this.base.bucket, key: this.temporaryKey(temporary) };
    if (await this.store.copy(from, this.resolve(final))) return;
    throw new TemporaryFileGoneError(
      `s3://${from.bucket}/${from.key} is gone before it got its final name ${final}; it can only be restored from a ` +
        "version or a copy of the object",
    );
  }

  async listTemporary(prefix: string): Promise<string[]> {
    const folder = this.temporaryKey("");
    const keys = await this.store.list(this.base.bucket, folder + prefix);
    return keys.map((key) => key.slice(folder.length));
  }

  async removeTemporary(name: string): Promise<void> {
    await this.store.remove(this.base.bucket, this.temporaryKey(name));
  }

  private temporaryKey(name: string): string {
    return join(this.base.key, `${TEMPORARY}/${name}`);
  }

  private resolve(final: string): ObjectName {
    const isUrl = /^[a-z][a-z0-9+.-]*:\/\//i.test(final);
    const { bucket, key } = this.base;
    try {
      const name = parseObjectName(isUrl ? final : `s3://${bucket}/${join(key, final)}`);
      const isTemporary = name.bucket === bucket && name.key.startsWith(this.temporaryKey(""));
      if (name.key === "" || final.startsWith("/") || isTemporary)
        throw new OutputNameError(
          `"${final}": an output name is relative to s3://${join(bucket, key)}, or a whole URL s3://bucket/prefix`,
        );
      return name;
    } catch (error) {
      if (error instanceof ObjectNameError) throw new OutputNameError(error.message);
      throw error;
    }
  }
}

function join(folder: string, name: string): string {
  return folder === "" ? name : `${folder}/${name}`;
}
