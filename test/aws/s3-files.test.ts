import { type ObjectStore, parseObjectName } from "../../lib/aws/s3";
import { S3Files } from "../../lib/aws/s3-files";
import { OutputNameError, TemporaryFileGoneError } from "../../lib/checkpoint/files";

/** S3 as far as S3Files can tell; test/integration/deploy.test.ts runs it against an emulator's. */
class MemoryStore implements ObjectStore {
  readonly objects = new Map<string, Buffer>();

  async put(bucket: string, key: string, data: Uint8Array): Promise<void> {
    this.objects.set(`${bucket}/${key}`, Buffer.from(data));
  }
  async get(bucket: string, key: string): Promise<Buffer | undefined> {
    return this.objects.get(`${bucket}/${key}`);
  }
  async copy(from: { bucket: string; key: string }, to: { bucket: string; key: string }): Promise<boolean> {
    const data = this.objects.get(`${from.bucket}/${from.key}`);
    if (data) this.objects.set(`${to.bucket}/${to.key}`, data);
    return data !== undefined;
  }
  async remove(bucket: string, key: string): Promise<void> {
    this.objects.delete(`${bucket}/${key}`);
  }
  async list(bucket: string, prefix: string): Promise<string[]> {
    const own = [...this.objects.keys()].filter((name) => name.startsWith(`${bucket}/${prefix}`));
    return own.map((name) => name.slice(bucket.length + 1)).sort();
  }
}

let store: MemoryStore;

beforeEach(() => {
  store = new MemoryStore();
});

const visible = (): string[] =>
  [...store.objects.keys()].filter((name) => !name.includes(".temporary")).sort();

test.each(["s3://bucket/output", "s3://bucket/output/", "s3://bucket"])(
  "below %s a file is invisible until it is published, and then whole",
  async (output) => {
    const files = new S3Files(output, store);
    await files.writeTemporary("t1", Buffer.from("content"));
    expect(visible()).toEqual([]);
    await files.publish("t1", "a/b/part");
    const folder = output === "s3://bucket" ? "bucket" : "bucket/output";
    expect(visible()).toEqual([`${folder}/a/b/part`]);
    expect(store.objects.get(`${folder}/a/b/part`)?.toString()).toBe("content");
  },
);

test("a URL names its own bucket", async () => {
  const files = new S3Files("s3://bucket/output", store);
  await files.writeTemporary("t1", Buffer.from("content"));
  await files.publish("t1", "s3://elsewhere/a/part");
  expect(visible()).toEqual(["elsewhere/a/part"]);
});

test("publishing may be repeated until the temporary object is removed, and then says what is gone", async () => {
  const files = new S3Files("s3://bucket/output", store);
  await files.writeTemporary("t1", Buffer.from("content"));
  await Promise.all([files.publish("t1", "part"), files.publish("t1", "part")]);
  await store.remove("bucket", "output/part");
  await files.publish("t1", "part");
  expect(visible()).toEqual(["bucket/output/part"]);
  await files.removeTemporary("t1");
  await files.removeTemporary("t1");
  const again = files.publish("t1", "part");
  await expect(again).rejects.toThrow(TemporaryFileGoneError);
  await expect(again).rejects.toThrow("s3://bucket/output/.temporary/t1 is gone");
});

test("temporary objects are listed by prefix, by their names", async () => {
  const files = new S3Files("s3://bucket/output", store);
  for (const name of ["a.1", "a.2", "b.1"]) await files.writeTemporary(name, Buffer.alloc(0));
  expect(await files.listTemporary("a.")).toEqual(["a.1", "a.2"]);
});

test.each([
  "s3://Bucket/x",
  "s3://bucket",
  "s3://bucket/",
  "s3:///x",
  "https://bucket/x",
  "/x",
  "../x",
  "a/./b",
  ".temporary/x",
  "s3://bucket/output/.temporary/x",
  `s3://bucket/${"x".repeat(1025)}`,
])("%s is no output name", (name) => {
  expect(() => new S3Files("s3://bucket/output", store).checkName(name)).toThrow(OutputNameError);
});

test.each(["part", "a b/ü:2026-01-01T00:00:00.000Z", "s3://other.bucket-1/x/y", "s3://bucket/elsewhere"])(
  "%s is an output name",
  (name) => new S3Files("s3://bucket/output", store).checkName(name),
);

test("a URL is taken apart", () => {
  expect(parseObjectName("s3://bucket/a/b")).toEqual({ bucket: "bucket", key: "a/b" });
  expect(parseObjectName("s3://bucket")).toEqual({ bucket: "bucket", key: "" });
  expect(() => parseObjectName("s3:/bucket")).toThrow("it must be s3://bucket/prefix");
});
