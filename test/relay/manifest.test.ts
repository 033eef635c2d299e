import fc from "fast-check";
import { EncodingError, encodeFrame } from "../../lib/checkpoint/encoding";
import {
  decodeUpdates,
  encodeUpdates,
  type KnownZnode,
  Manifest,
  type ManifestUpdate,
} from "../../lib/relay/manifest";

const SEED = 20260724;
const zxid = fc.bigInt({ min: 0n, max: 2n ** 63n - 1n });
const known: fc.Arbitrary<KnownZnode> = fc.record({
  czxid: zxid,
  mzxid: zxid,
  version: fc.integer(),
  cversion: fc.integer(),
  aversion: fc.integer(),
});
const update = fc.tuple(
  fc.constantFrom("/a", "/b/ü", '/c"', "/d"),
  fc.option(known),
) as fc.Arbitrary<ManifestUpdate>;
const updates = fc.array(update, { maxLength: 20 });

function contents(manifest: Manifest): Record<string, unknown> {
  return Object.fromEntries([...manifest.paths()].map((path) => [path, manifest.get(path)]));
}

test("updates survive their encoding, the largest zxids and version 0 too", () => {
  fc.assert(
    fc.property(updates, (each) => expect(decodeUpdates(encodeUpdates(each), "/m")).toEqual(each)),
    { seed: SEED },
  );
});

test("snapshot and deltas give the same, wherever the snapshot was taken", () => {
  fc.assert(
    fc.property(updates, updates, updates, (before, within, after) => {
      const whole = new Manifest();
      whole.apply([...before, ...within, ...after]);
      const first = new Manifest();
      first.apply(before);
      const again = new Manifest();
      again.apply(decodeUpdates(first.encodeSnapshot(within), "/m"));
      again.apply(decodeUpdates(encodeUpdates(after), "/m/1"));
      expect(contents(again)).toEqual(contents(whole));
      expect(again.size).toBe(whole.size);
    }),
    { seed: SEED },
  );
});

test("a damaged manifest names the znode", () => {
  expect(() => decodeUpdates(Buffer.from("[]"), "/the/manifest")).toThrow(EncodingError);
  expect(() => decodeUpdates(encodeFrame("manifest", Buffer.from("[")), "/the/manifest")).toThrow(
    /^\/the\/manifest: /,
  );
});
