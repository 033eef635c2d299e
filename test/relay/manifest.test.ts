import fc from "fast-check";
import { EncodingError, encodeFrame } from "../../lib/checkpoint/encoding";
import { type KnownZnode, Manifest, type ManifestUpdate, pathHash } from "../../lib/relay/manifest";
import { decodeUpdates, encodeUpdates } from "../../lib/relay/manifest-rows";

const SEED = 20260724;
const zxid = fc.bigInt({ min: 0n, max: 2n ** 63n - 1n });
const known: fc.Arbitrary<KnownZnode> = fc.record({
  czxid: zxid,
  mzxid: zxid,
  version: fc.integer(),
  cversion: fc.integer(),
  aversion: fc.integer(),
});
const name = fc.constantFrom("a", "b", "ü", '"', "ab", "名前", "\u{1f600}");
const path = fc.array(name, { maxLength: 4 }).map((names) => `/${names.join("/")}`);
const update: fc.Arbitrary<ManifestUpdate> = fc.oneof(
  fc.tuple(path, known),
  fc.tuple(path, fc.constant(null), zxid),
);
const updates = fc.array(update, { maxLength: 60 });

function contents(manifest: Manifest): Record<string, unknown> {
  return Object.fromEntries([...manifest.paths()].map((each) => [each, manifest.get(each)]));
}

function model(each: readonly ManifestUpdate[]): Map<string, KnownZnode> {
  const znodes = new Map<string, KnownZnode>();
  for (const [znode, value] of each) {
    if (value) znodes.set(znode, value);
    else znodes.delete(znode);
  }
  return znodes;
}

test("it knows what a Map would know", () => {
  fc.assert(
    fc.property(updates, path, (each, other) => {
      const manifest = new Manifest();
      manifest.apply(each);
      const expected = model(each);
      expect(contents(manifest)).toEqual(Object.fromEntries(expected));
      expect(manifest.size).toBe(expected.size);
      expect(manifest.pathBytes).toBe([...expected.keys()].join("").length);
      expect(manifest.get(other)).toEqual(expected.get(other));
      const parts = [0, 1, 2].flatMap((index) => [...manifest.part(index, 3)]);
      expect(Object.fromEntries(parts)).toEqual(Object.fromEntries(expected));
      for (const [znode] of manifest.part(1, 3)) expect(pathHash(znode) % 3).toBe(1);
    }),
    { seed: SEED },
  );
});

test("a walk sees what it finds and what is learnt meanwhile", () => {
  fc.assert(
    fc.property(updates, updates, fc.array(path), (before, meanwhile, found) => {
      const manifest = new Manifest();
      manifest.apply(before);
      manifest.beginWalk();
      for (const each of found) manifest.seen(each);
      manifest.apply(meanwhile);
      const all = model([...before, ...meanwhile]);
      const learnt = new Set(meanwhile.filter(([, value]) => value).map(([each]) => each));
      const unseen = [...all.keys()].filter((each) => !found.includes(each) && !learnt.has(each));
      expect([...manifest.unseen()].sort()).toEqual(unseen.sort());
    }),
    { seed: SEED },
  );
});

test("many znodes, most of which go: the memory goes too, and the marks of a walk stay", () => {
  const manifest = new Manifest();
  const one: KnownZnode = { czxid: 1n, mzxid: 2n, version: 3, cversion: 4, aversion: 5 };
  const paths = Array.from({ length: 50_000 }, (_, index) => `/some/folder-${index % 100}/znode-${index}`);
  manifest.apply(paths.map((each) => [each, one]));
  const full = manifest.memoryBytes;
  expect(full / paths.length).toBeLessThan(150);
  manifest.beginWalk();
  for (const each of paths.slice(0, 5)) manifest.seen(each);
  manifest.apply(paths.slice(10).map((each) => [each, null, 1n]));
  expect(manifest.size).toBe(10);
  expect(manifest.memoryBytes).toBeLessThan(full / 4);
  expect([...manifest.unseen()]).toEqual(paths.slice(5, 10));
  expect(contents(manifest)).toEqual(Object.fromEntries(paths.slice(0, 10).map((each) => [each, one])));
});

test("updates survive their encoding, the largest zxids and version 0 too", () => {
  fc.assert(
    fc.property(updates, (each) => expect(decodeUpdates(encodeUpdates(each), "/m")).toEqual(each)),
    { seed: SEED },
  );
});

test("a damaged manifest names the znode", () => {
  expect(() => decodeUpdates(Buffer.from("[]"), "/the/manifest")).toThrow(EncodingError);
  const whole = encodeUpdates([["/a/b", { czxid: 1n, mzxid: 2n, version: 3, cversion: 4, aversion: 5 }]]);
  const payload = whole.subarray(8);
  for (let length = 1; length < payload.length; length++) {
    const cut = encodeFrame("manifest", payload.subarray(0, length));
    expect(() => decodeUpdates(cut, "/the/manifest")).toThrow(/^\/the\/manifest: .*broken at byte/);
  }
});
