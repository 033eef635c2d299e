import {
  CopyObjectCommand,
  DeleteObjectCommand,
  GetObjectCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  S3Client,
} from "@aws-sdk/client-s3";
import type { ObjectDescription, ObjectStore, ReadableObjects, S3Options } from "./s3";

/** The SDK's client as {@link ObjectStore}. Only `s3.ts` imports this file, when the first call comes. */
export function createS3({ pathStyle }: S3Options): ObjectStore & ReadableObjects {
  const client = new S3Client({ forcePathStyle: pathStyle });
  return {
    async put(bucket, key, data) {
      await client.send(new PutObjectCommand({ Bucket: bucket, Key: key, Body: data }));
    },
    async get(bucket, key) {
      try {
        const { Body } = await client.send(new GetObjectCommand({ Bucket: bucket, Key: key }));
        return Buffer.from(await Body!.transformToByteArray());
      } catch (error) {
        if (isAbsent(error)) return undefined;
        throw error;
      }
    },
    async copy(from, to) {
      const source = `${from.bucket}/${from.key.split("/").map(encodeURIComponent).join("/")}`;
      try {
        await client.send(new CopyObjectCommand({ Bucket: to.bucket, Key: to.key, CopySource: source }));
        return true;
      } catch (error) {
        if (isAbsent(error)) return false;
        throw error;
      }
    },
    async remove(bucket, key) {
      await client.send(new DeleteObjectCommand({ Bucket: bucket, Key: key }));
    },
    async list(bucket, prefix) {
      return (await describe(client, bucket, prefix)).map(({ key }) => key);
    },
    describe: (bucket, prefix) => describe(client, bucket, prefix),
    async getRange(bucket, key, from, to, etag) {
      const range = { Range: `bytes=${from}-${to - 1}`, IfMatch: etag };
      try {
        const { Body } = await client.send(new GetObjectCommand({ Bucket: bucket, Key: key, ...range }));
        return Buffer.from(await Body!.transformToByteArray());
      } catch (error) {
        if (isAbsent(error) || (error as Error).name === "PreconditionFailed") return undefined;
        throw error;
      }
    },
  };
}

async function describe(client: S3Client, bucket: string, prefix: string): Promise<ObjectDescription[]> {
  const objects: ObjectDescription[] = [];
  for (let token: string | undefined; ; ) {
    const page = await client.send(
      new ListObjectsV2Command({ Bucket: bucket, Prefix: prefix, ContinuationToken: token }),
    );
    for (const { Key, Size = 0, ETag = "" } of page.Contents ?? [])
      objects.push({ key: Key!, sizeBytes: Size, etag: ETag });
    token = page.NextContinuationToken;
    if (token === undefined) return objects;
  }
}

/** A missing bucket is not a missing object. */
function isAbsent(error: unknown): boolean {
  return (error as Error | null)?.name === "NoSuchKey";
}
