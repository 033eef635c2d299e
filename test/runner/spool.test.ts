import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { FileSpool } from "../../lib/runner/spool";

let folder: string;
const before = process.env.TMPDIR;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "beamkeeper-test-"));
  process.env.TMPDIR = folder;
});

afterAll(() => {
  if (before === undefined) delete process.env.TMPDIR;
  else process.env.TMPDIR = before;
  rmSync(folder, { recursive: true });
});

/** A number writes so many bytes; a share frees the entry that lies there among those that are left. */
const steps = fc.array(
  fc.oneof(
    fc.record({ bytes: fc.nat(300) }),
    fc.record({ freed: fc.double({ min: 0, max: 0.999, noNaN: true }) }),
  ),
  { maxLength: 60 },
);

test("entries are what was written, whatever was freed before, and nothing of them has a name", () => {
  fc.assert(
    fc.property(steps, (all) => {
      const spool = new FileSpool();
      const entries: { readonly handle: number; readonly bytes: Buffer }[] = [];
      let written = 0;
      try {
        for (const step of all) {
          if ("bytes" in step) {
            const bytes = Buffer.alloc(step.bytes, ++written);
            entries.push({ handle: spool.write(bytes), bytes });
          } else if (entries.length > 0) {
            const [gone] = entries.splice(Math.floor(step.freed * entries.length), 1);
            spool.free(gone!.handle);
          }
          for (const { handle, bytes } of entries) expect(spool.read(handle)).toEqual(bytes);
        }
        // A process that is killed now leaves nothing.
        expect(readdirSync(folder)).toEqual([]);
      } finally {
        spool.close();
      }
    }),
    { numRuns: 100 },
  );
});

test("room that was freed is used again", () => {
  const spool = new FileSpool();
  const live: number[] = [];
  // Of 100 MB that go through it, at most two entries of 1 MB are there at a time.
  for (let at = 0; at < 100; at++) {
    live.push(spool.write(Buffer.alloc(1_000_000 - at)));
    if (live.length > 2) spool.free(live.shift()!);
  }
  expect(spool.size).toBeLessThan(5_000_000);
  for (const handle of live) spool.free(handle);
  expect(spool.size).toBe(0);
  spool.close();
});
