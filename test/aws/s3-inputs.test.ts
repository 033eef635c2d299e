import type { ReadableObjects } from "../../lib/aws/s3";
import { S3Inputs } from "../../lib/aws/s3-inputs";

/** S3 as far as S3Inputs can tell; test/integration/deploy.test.ts has an emulator's. */
class MemoryObjects implements ReadableObjects {
  readonly objects = new Map<string, { data: Buffer; etag: string }>();
  readonly ranges: [number, number][] = [];
  failure: (Error & { $metadata?: { httpStatusCode: number } }) | undefined;

  put(name: string, data: Buffer, etag = "v1"): void {
    this.objects.set(name, { data, etag });
  }
  async describe(bucket: string, prefix: string) {
    if (this.failure) throw this.failure;
    return [...this.objects]
      .filter(([name]) => name.startsWith(`${bucket}/${prefix}`))
      .map(([name, { data, etag }]) => ({
        key: name.slice(bucket.length + 1),
        sizeBytes: data.length,
        etag,
      }));
  }
  async getRange(bucket: string, key: string, from: number, to: number, etag: string) {
    if (this.failure) throw this.failure;
    this.ranges.push([from, to]);
    const found = this.objects.get(`${bucket}/${key}`);
    return found?.etag === etag ? found.data.subarray(from, to) : undefined;
  }
}

let store: MemoryObjects;
let inputs: S3Inputs;

beforeEach(() => {
  store = new MemoryObjects();
  inputs = new S3Inputs(store);
  for (const name of [
    "a.txt",
    "logs/1.txt",
    "logs/2.gz",
    "logs/deep/3.txt",
    "logs/.hidden",
    "logs/",
    "logsheet",
  ])
    store.put(`bucket/${name}`, Buffer.from(name));
});

test.each([
  ["s3://bucket/a.txt", ["a.txt"]],
  ["s3://bucket/logs/", ["logs/1.txt", "logs/2.gz"]],
  ["s3://bucket/logs/*.txt", ["logs/1.txt"]],
  ["s3://bucket/logs/**", ["logs/1.txt", "logs/2.gz", "logs/deep/3.txt"]],
  ["s3://bucket/**/*.txt", ["a.txt", "logs/1.txt", "logs/deep/3.txt"]],
  ["s3://bucket/logs/?.gz", ["logs/2.gz"]],
  ["s3://bucket", ["a.txt", "logsheet"]],
  ["s3://bucket/log", []],
  ["s3://other/*", []],
])("%s stands for %j", async (pattern, keys) => {
  const found = await inputs.list(pattern);
  expect(found.map(({ name }) => name)).toEqual(keys.map((key) => `s3://bucket/${key}`));
  for (const { name, sizeBytes, version } of found)
    expect([sizeBytes, version]).toEqual([name.length - "s3://bucket/".length, "v1"]);
});

const MIB = 1024 * 1024;

test("an object is read in parts, and not beyond what is asked for", async () => {
  const data = Buffer.alloc(10 * MIB, "0123456789");
  store.put("bucket/large", data);
  const [file] = await inputs.list("s3://bucket/large");
  const chunks: Buffer[] = [];
  for await (const chunk of inputs.read(file!, MIB, 9 * MIB + 3)) chunks.push(chunk);
  expect(Buffer.concat(chunks).equals(data.subarray(MIB, 9 * MIB + 3))).toBe(true);
  expect(store.ranges).toEqual([
    [MIB, 5 * MIB],
    [5 * MIB, 9 * MIB],
    [9 * MIB, 9 * MIB + 3],
  ]);
});

async function readAll(name: string): Promise<void> {
  const [file] = await inputs.list(name);
  store.put("bucket/a.txt", Buffer.from("other"), "v2");
  for await (const _chunk of inputs.read(file!, 0));
}

test("an object that was replaced since it was listed is refused", async () => {
  await expect(readAll("s3://bucket/a.txt")).rejects.toMatchObject({
    name: "InputFileError",
    message: expect.stringMatching(/s3:\/\/bucket\/a\.txt is gone, or has changed/),
  });
});

test.each([
  [403, "InputFileError", "terminal"],
  [404, "InputFileError", "terminal"],
  [503, "InputUnavailableError", "retryable"],
])("an answer with status %d is an %s", async (httpStatusCode, name, outcome) => {
  store.failure = Object.assign(new Error("no"), { $metadata: { httpStatusCode } });
  await expect(inputs.list("s3://bucket/a.txt")).rejects.toMatchObject({ name, outcome });
});
