/**
 * The part of S3 that Beamkeeper uses. The SDK's client is loaded at the first call and not before: a function that
 * writes no text, and the relay, never pay for it.
 */
export interface ObjectStore {
  /** Writes the whole object, or nothing. */
  put(bucket: string, key: string, data: Uint8Array): Promise<void>;
  /** The object's content; undefined where there is none. */
  get(bucket: string, key: string): Promise<Buffer | undefined>;
  /** Copies within S3, whole or not at all; false where the source does not exist. */
  copy(from: ObjectName, to: ObjectName): Promise<boolean>;
  /** Deletes the object; absent is fine. */
  remove(bucket: string, key: string): Promise<void>;
  /** The keys that begin with the prefix, in their order. */
  list(bucket: string, prefix: string): Promise<string[]>;
}

/** What reading from S3 takes beside that. */
export interface ReadableObjects {
  /** The objects whose keys begin with the prefix, in their order. */
  describe(bucket: string, prefix: string): Promise<readonly ObjectDescription[]>;
  /** The bytes from `from` on and before `to`; undefined where there is no such object with this ETag. */
  getRange(bucket: string, key: string, from: number, to: number, etag: string): Promise<Buffer | undefined>;
}

export interface ObjectDescription {
  readonly key: string;
  readonly sizeBytes: number;
  readonly etag: string;
}

export interface ObjectName {
  readonly bucket: string;
  readonly key: string;
}

/** An S3 URL that cannot be one. Terminal. */
export class ObjectNameError extends Error {
  override readonly name = "ObjectNameError";
  readonly outcome = "terminal";
}

const URL_FORM = /^s3:\/\/([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:\/(.*))?$/s;
const MAX_KEY_BYTES = 1024;

/** "s3://bucket/some/key" -> its bucket and key (which may be ""). Throws {@link ObjectNameError}. */
export function parseObjectName(url: string): ObjectName {
  const [, bucket, key = ""] = URL_FORM.exec(url) ?? [];
  if (bucket === undefined)
    throw new ObjectNameError(
      `"${url}" is not an S3 URL: it must be s3://bucket/prefix, the bucket in lower case`,
    );
  if (Buffer.byteLength(key) > MAX_KEY_BYTES)
    throw new ObjectNameError(`"${url}": S3 takes keys of at most ${MAX_KEY_BYTES} bytes`);
  if (key.split("/").some((part) => part === "." || part === ".."))
    throw new ObjectNameError(`"${url}": "." and ".." mean nothing in S3; leave them out`);
  return { bucket, key };
}

export interface S3Options {
  /** Addresses buckets as folders of the endpoint, which emulators need (default: false, as hosts). */
  readonly pathStyle: boolean;
}

/** S3 as the SDK reaches it; the usual AWS variables decide where it is and who calls. */
export function awsS3(options: S3Options): ObjectStore & ReadableObjects {
  let loaded: Promise<ObjectStore & ReadableObjects> | undefined;
  const service = (): Promise<ObjectStore & ReadableObjects> => {
    loaded ??= import("./s3-client.js").then(({ createS3 }) => createS3(options));
    return loaded;
  };
  return {
    put: async (...args) => (await service()).put(...args),
    get: async (...args) => (await service()).get(...args),
    copy: async (...args) => (await service()).copy(...args),
    remove: async (...args) => (await service()).remove(...args),
    list: async (...args) => (await service()).list(...args),
    describe: async (...args) => (await service()).describe(...args),
    getRange: async (...args) => (await service()).getRange(...args),
  };
}
