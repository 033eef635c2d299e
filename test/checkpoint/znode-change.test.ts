import fc from "fast-check";
import {
  CHANGE_KINDS,
  decodeZnodeChange,
  encodeZnodeChange,
  type ZnodeChange,
} from "../../lib/checkpoint/znode-change";

const int32 = fc.integer();
const zxid = fc.bigInt({ min: 0n, max: 2n ** 63n - 1n });
const change: fc.Arbitrary<ZnodeChange> = fc
  .record({
    path: fc.string({ unit: "grapheme" }),
    kind: fc.constantFrom(...CHANGE_KINDS),
    bytes: fc.uint8Array({ maxLength: 100 }),
    version: int32,
    czxid: zxid,
    mzxid: zxid,
    zxid,
    cversion: int32,
    aversion: int32,
    numChildren: int32,
    isEphemeral: fc.boolean(),
    children: fc.array(fc.string()),
    previous: fc.option(fc.uint8Array({ maxLength: 20 })),
    knowsPrevious: fc.boolean(),
    ctimeMs: fc.integer(),
    mtimeMs: fc.integer(),
    missed: fc.nat(),
    missedAtLeast: fc.boolean(),
  })
  .map(({ bytes, kind, children, previous, knowsPrevious, ...rest }): ZnodeChange => {
    const data = ["deleted", "children", "acl"].includes(kind) ? null : Buffer.from(bytes);
    return {
      ...rest,
      kind,
      data,
      text: data?.toString("utf8") ?? null,
      ...(kind === "children" ? { children } : {}),
      ...(knowsPrevious ? { previous: previous && Buffer.from(previous) } : {}),
    };
  });

test("changes survive their encoding, with any value and the largest zxids", () => {
  fc.assert(
    fc.property(change, fc.double({ noNaN: true }), (each, timestampMs) => {
      const { bytes, timestampMs: time } = encodeZnodeChange(each, timestampMs);
      expect(time).toBe(timestampMs);
      expect(decodeZnodeChange(Buffer.from(bytes))).toEqual({ change: each, timestampMs });
    }),
    { seed: 20260724 },
  );
});

test("an empty value is not a deletion", () => {
  const [empty] = fc.sample(
    change.filter(({ kind }) => kind === "created"),
    { numRuns: 1, seed: 1 },
  );
  const encoded = encodeZnodeChange({ ...empty!, data: Buffer.alloc(0), text: "" }, 5);
  const decoded = decodeZnodeChange(Buffer.from(encoded.bytes)).change;
  expect(decoded.data).toEqual(Buffer.alloc(0));
  expect(decoded.text).toBe("");
});

test("the decoded value does not keep the segment that it came in alive or change with it", () => {
  const [each] = fc.sample(
    change.filter(({ data }) => (data?.length ?? 0) > 0),
    { numRuns: 1, seed: 2 },
  );
  const bytes = Buffer.from(encodeZnodeChange(each!, 5).bytes);
  const decoded = decodeZnodeChange(bytes).change;
  bytes.fill(0);
  expect(decoded.data).toEqual(each!.data);
});
