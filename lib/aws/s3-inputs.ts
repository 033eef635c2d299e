import type { InputFile, InputFiles } from "../beam/splittable";
import { byName, parsePattern } from "../io/file-pattern";
import { InputFileError, InputUnavailableError } from "../io/input-errors";
import { ObjectNameError, parseObjectName, type ReadableObjects } from "./s3";

const CHUNK_BYTES = 4 * 1024 * 1024;

/** Objects as input files: `s3://bucket/key`, with the patterns of file names in the key. Their ETags are their versions. */
export class S3Inputs implements InputFiles {
  constructor(private readonly store: ReadableObjects) {}

  async list(pattern: string): Promise<InputFile[]> {
    const { bucket, key } = nameOf(pattern);
    const { prefix, matches } = parsePattern(key === "" ? "*" : key);
    const objects = await asked(pattern, () => this.store.describe(bucket, prefix));
    return objects
      .filter(
        (object) => (matches ? matches.test(object.key) : object.key === key) && !object.key.endsWith("/"),
      )
      .map((object) => ({
        name: `s3://${bucket}/${object.key}`,
        sizeBytes: object.sizeBytes,
        version: object.etag,
      }))
      .sort(byName);
  }

  async *read({ name, sizeBytes, version }: InputFile, from: number, to = sizeBytes): AsyncGenerator<Buffer> {
    const { bucket, key } = nameOf(name);
    for (let at = from; at < to; at += CHUNK_BYTES) {
      const end = Math.min(to, at + CHUNK_BYTES);
      const bytes = await asked(name, () => this.store.getRange(bucket, key, at, end, version));
      if (bytes === undefined)
        throw new InputFileError(
          `${name} is gone, or has changed since its reading began, so what was read may not be in it`,
        );
      yield bytes;
    }
  }
}

function nameOf(url: string): { bucket: string; key: string } {
  try {
    return parseObjectName(url);
  } catch (error) {
    if (error instanceof ObjectNameError) throw new InputFileError(error.message);
    throw error;
  }
}

/** What S3 refuses for good is told apart from what it cannot do at the moment. */
async function asked<T>(name: string, ask: () => Promise<T>): Promise<T> {
  try {
    return await ask();
  } catch (error) {
    const status = (error as { $metadata?: { httpStatusCode?: number } }).$metadata?.httpStatusCode;
    const { message } = error as Error;
    if (status === 403 || status === 404)
      throw new InputFileError(
        `${name} cannot be read (${message}): look at its name and at the function's rights`,
      );
    throw new InputUnavailableError(`${name}: ${message}`, { cause: error });
  }
}
