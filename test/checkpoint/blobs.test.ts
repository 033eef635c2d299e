import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type ObjectStore, parseObjectName } from "../../lib/aws/s3";
import { S3Blobs } from "../../lib/aws/s3-blobs";
import {
  type BlobStore,
  CommitBlobs,
  collectBlobs,
  DirectoryBlobs,
  openRecord,
} from "../../lib/checkpoint/blobs";
import { EncodingError, encodeFrame } from "../../lib/checkpoint/encoding";
import { encodeSegment } from "../../lib/checkpoint/segment";
import type { Op, ZooKeeperClient } from "../../lib/zookeeper";

let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "beamkeeper-blobs-"));
});

afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** S3 as far as S3Blobs can tell. */
function memoryS3(): ObjectStore {
  const objects = new Map<string, Buffer>();
  return {
    put: async (bucket, key, data) => void objects.set(`${bucket}/${key}`, Buffer.from(data)),
    get: async (bucket, key) => objects.get(`${bucket}/${key}`),
    copy: async () => false,
    remove: async (bucket, key) => void objects.delete(`${bucket}/${key}`),
    list: async (bucket, prefix) => {
      const own = [...objects.keys()].filter((name) => name.startsWith(`${bucket}/${prefix}`));
      return own.map((name) => name.slice(bucket.length + 1));
    },
  };
}

const STORES: [string, () => BlobStore][] = [
  ["a folder", () => new DirectoryBlobs(join(folder, "new"))],
  ["S3 with a prefix", () => new S3Blobs("s3://bucket/a/b", memoryS3())],
  ["S3 without one", () => new S3Blobs("s3://bucket", memoryS3())],
];

test.each(STORES)("%s keeps blobs by name, and deleting what is not there is fine", async (_, open) => {
  const store = open();
  expect(await store.get("a.1")).toBeUndefined();
  expect(await store.list("")).toEqual([]);
  await store.delete("a.1");
  await store.put("a.1", Buffer.from("one"));
  await store.put("b.1", Buffer.from("two"));
  expect((await store.get("a.1"))?.toString()).toBe("one");
  expect(await store.list("a.")).toEqual(["a.1"]);
  await store.delete("a.1");
  expect([await store.get("a.1"), await store.list("")]).toEqual([undefined, ["b.1"]]);
});

const create = (path: string, data: Buffer): Op => ({ type: "create", path, data });
const dataOf = (op: Op | undefined): Buffer =>
  op?.type === "create" ? (op.data as Buffer) : Buffer.alloc(0);

test("large records go to the store, and what the znode holds then leads to them", async () => {
  const store = new DirectoryBlobs(folder);
  const [small, large] = [
    encodeFrame("segment", Buffer.alloc(9)),
    encodeFrame("segment", Buffer.alloc(5_000, 7)),
  ];
  const written = new CommitBlobs(store, "/p/stages/s/0", 12, "id");
  const ops = await written.keep(
    [create("/a", small), create("/b", large), { type: "delete", path: "/c" }],
    1_000,
  );
  expect(ops[0]).toEqual(create("/a", small));
  expect(dataOf(ops[1]).length).toBeLessThan(200);
  expect(ops[2]).toEqual({ type: "delete", path: "/c" });
  expect(await openRecord(store, dataOf(ops[1]), "/b")).toEqual({
    frame: large,
    blob: written.byPath.get("/b"),
  });
  expect(await openRecord(store, small, "/a")).toEqual({ frame: small, blob: undefined });
  expect(await store.list("")).toEqual([written.byPath.get("/b")]);
  expect(written.byPath.get("/b")).toMatch(/^[0-9a-f]{16}\.12\.id\.0$/);
  await written.discard();
  expect(await openRecord(store, dataOf(ops[1]), "/b")).toBeUndefined();
});

test("a blob of another length or content is an error that names the znode and the blob", async () => {
  const store = new DirectoryBlobs(folder);
  const written = new CommitBlobs(store, "/p/stages/s/0", 1, "id");
  const [op] = await written.keep([create("/b", encodeFrame("segment", Buffer.alloc(50)))], 10);
  for (const other of [Buffer.alloc(3), encodeFrame("segment", Buffer.alloc(50, 1))]) {
    await store.put(written.byPath.get("/b")!, other);
    await expect(openRecord(store, dataOf(op), "/b")).rejects.toThrow(EncodingError);
    await expect(openRecord(store, dataOf(op), "/b")).rejects.toThrow(
      /^\/b: its blob [0-9a-f]{16}\.1\.id\.0 has/,
    );
  }
});

test("only what has lost is collected: not what is referred to here or in an inbox, nor what may yet be committed", async () => {
  const store = new DirectoryBlobs(folder);
  const head = "/p/stages/s/0";
  const put = async (number: number, id: string): Promise<{ name: string; reference: Buffer }> => {
    const written = new CommitBlobs(store, head, number, id);
    const [op] = await written.keep([create("/x", encodeSegment([]).data)], 1);
    return { name: written.byPath.get("/x")!, reference: dataOf(op) };
  };
  const state = await put(3, "won");
  const inFlight = await put(4, "won");
  const lost = await put(4, "lost");
  const next = await put(5, "next");
  const other = new CommitBlobs(store, "/p/stages/s/1", 1, "other");
  await other.keep([create("/x", encodeSegment([]).data)], 1);
  const inbox = new Map([
    ["1-1", inFlight.reference],
    ["1-2", encodeSegment([]).data],
  ]);
  const client = {
    getChildren: async () => ({ children: [...inbox.keys()] }),
    getData: async (path: string) => ({ data: inbox.get(path.split("/").at(-1)!)! }),
  } as unknown as ZooKeeperClient;
  const before = await store.list("");
  await collectBlobs(client, store, head, 4, [state.name], [{ path: "/p/stages/t/0/inbox" }]);
  expect(await store.list("")).toEqual(before.filter((name) => name !== lost.name));
  expect(await store.list("")).toContain(next.name);
});

test("a location that is no S3 URL is refused", () => {
  expect(() => new S3Blobs("s3://", memoryS3())).toThrow("is not an S3 URL");
  expect(parseObjectName("s3://bucket/a/b").key).toBe("a/b");
});
