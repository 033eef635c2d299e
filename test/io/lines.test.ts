import "../support/property-seed";
import fc from "fast-check";
import { LineCutter } from "../../lib/io/lines";

const MAX = 1_000;

/** What a range gives, read in chunks of any sizes from the file. */
function linesOf(file: Buffer, from: number, to: number, chunkBytes: readonly number[], max = MAX) {
  const cutter = new LineCutter(from, to, max);
  const found: { text: string; offset: number; isTooLong?: true }[] = [];
  let turn = 0;
  for (let at = LineCutter.startOf(from); at < file.length && !cutter.isDone; turn++) {
    const bytes = chunkBytes[turn % chunkBytes.length]!;
    found.push(...cutter.add(file.subarray(at, at + bytes)).lines);
    at += bytes;
  }
  found.push(...cutter.end().lines);
  return found;
}

/** The slow and obvious way: all lines of the file, each with its offset. */
function reference(file: Buffer): { text: string; offset: number }[] {
  const lines: { text: string; offset: number }[] = [];
  let start = 0;
  for (let at = 0; at <= file.length; at++) {
    if (at < file.length && file[at] !== 0x0a) continue;
    if (at === file.length && start === at) break;
    const text = file.toString("utf8", start, at).replace(/\r$/, "");
    lines.push({ text: start === 0 ? text.replace(/^\uFEFF/, "") : text, offset: start });
    start = at + 1;
  }
  return lines;
}

const text = fc
  .array(fc.constantFrom("a", "bc", "é", "日本", "\n", "\n", "\r\n", "\r", "", " ", "\uFEFF"), {
    maxLength: 40,
  })
  .map((parts) => Buffer.from(parts.join(""), "utf8"));
const cuts = fc.array(fc.nat(60), { maxLength: 8 });
const chunks = fc.array(fc.integer({ min: 1, max: 12 }), { minLength: 1, maxLength: 4 });

test("whatever the ranges and the chunks are, each line is found once, by who has its first byte", () => {
  fc.assert(
    fc.property(text, cuts, chunks, (file, points, chunkBytes) => {
      const borders = [0, ...points.filter((at) => at < file.length), file.length].sort((a, b) => a - b);
      const found = borders.slice(1).flatMap((to, index) => linesOf(file, borders[index]!, to, chunkBytes));
      expect(found).toEqual(reference(file));
    }),
    { numRuns: 1_000 },
  );
});

test("a read that stops after any chunk goes on at `next`, and gives the same lines", () => {
  fc.assert(
    fc.property(text, fc.nat(60), fc.nat(60), chunks, fc.nat(20), (file, a, b, chunkBytes, stopAfter) => {
      const [from, to] = [Math.min(a, b, file.length), Math.min(Math.max(a, b), file.length)];
      const cutter = new LineCutter(from, to, MAX);
      const found: unknown[] = [];
      let at = LineCutter.startOf(from);
      for (let turn = 0; turn <= stopAfter && at < file.length && !cutter.isDone; turn++) {
        const bytes = chunkBytes[turn % chunkBytes.length]!;
        found.push(...cutter.add(file.subarray(at, at + bytes)).lines);
        at += bytes;
      }
      if (!cutter.isDone) found.push(...linesOf(file, cutter.next, to, chunkBytes));
      expect(found).toEqual(linesOf(file, from, to, [file.length || 1]));
    }),
    { numRuns: 1_000 },
  );
});

test("a line of the greatest length is a line, a longer one is told with its place, and the next one is found", () => {
  const file = Buffer.from(`12345\n123456\r\n12345\r\n1234567890123456\nend`);
  for (const chunk of [1, 3, 7, 100])
    expect(linesOf(file, 0, file.length, [chunk], 5)).toEqual([
      { text: "12345", offset: 0 },
      { text: expect.stringMatching(/^123456/), offset: 6, isTooLong: true },
      { text: "12345", offset: 14 },
      { text: expect.stringMatching(/^123456/), offset: 21, isTooLong: true },
      { text: "end", offset: 38 },
    ]);
});
