import fc from "fast-check";
import {
  bucketHas,
  compaction,
  decodeBucket,
  decodeRun,
  encodeBucket,
  encodeRun,
  hashId,
  type IdBucket,
  NEW_BUCKET,
  recentLag,
  runHas,
  take,
} from "../../lib/checkpoint/event-ids";
import "../support/property-seed";

const REMEMBER_MS = 1_000_000;

/** A bucket with its runs, as a server would keep it; everything goes through its encoding. */
class Model {
  bucket: IdBucket = NEW_BUCKET;
  readonly runs = new Map<number, Buffer>();

  take(ids: readonly string[], nowMs: number): void {
    const taken = { ids: ids.map(hashId), positions: {}, arrivalMs: nowMs };
    this.bucket = decodeBucket(encodeBucket(take(this.bucket, taken, nowMs, REMEMBER_MS)), "/ids");
  }

  compact(nowMs: number): void {
    const due = compaction(this.bucket, nowMs, REMEMBER_MS);
    if (!due) return;
    const { bucket, run, merged, removed } = due;
    if (run) {
      const old = merged ? [this.runs.get(merged.number)!] : [];
      const ids = [...this.bucket.recent.map(({ id }) => id), ...old];
      this.runs.set(run.number, decodeRun(encodeRun(ids.flatMap(split)), "/run"));
    }
    for (const { number } of removed) this.runs.delete(number);
    this.bucket = decodeBucket(encodeBucket(bucket), "/ids");
    expect([...this.runs.keys()].sort()).toEqual(this.bucket.runs.map(({ number }) => number).sort());
  }

  has(id: string): boolean {
    const hash = hashId(id);
    return bucketHas(this.bucket, hash) || [...this.runs.values()].some((run) => runHas(run, hash));
  }
}

function split(run: Buffer): Buffer[] {
  return Array.from({ length: run.length / 12 }, (_, index) => run.subarray(index * 12, index * 12 + 12));
}

test("what was taken is known for as long as it is remembered, however it is compacted", () => {
  const step = fc.record({
    ids: fc.integer({ min: 1, max: 400 }),
    passMs: fc.integer({ min: 0, max: 200_000 }),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 25 }), (steps) => {
      const model = new Model();
      const taken: { id: string; atMs: number }[] = [];
      let nowMs = 1_700_000_000_000;
      for (const [index, { ids, passMs }] of steps.entries()) {
        nowMs += passMs;
        const fresh = Array.from({ length: ids }, (_, n) => `${index}-${n}`);
        model.take(fresh, nowMs);
        model.compact(nowMs);
        taken.push(...fresh.map((id) => ({ id, atMs: nowMs })));
      }
      for (const { id, atMs } of taken.filter((_, n) => n % 13 === 0))
        if (atMs + REMEMBER_MS > nowMs) expect([id, model.has(id)]).toEqual([id, true]);
      expect(model.has("never taken")).toBe(false);
      // Bounded: what is kept longer than it has to be is an eighth of the time, and less than one run.
      const needed = taken.filter(({ atMs }) => atMs + REMEMBER_MS * (9 / 8) + 1000 > nowMs).length;
      const kept =
        model.bucket.recent.length + [...model.runs.values()].reduce((sum, run) => sum + run.length / 12, 0);
      expect(kept).toBeLessThanOrEqual(needed + 256);
      expect(model.bucket.recent.length).toBeLessThanOrEqual(256 + 400);
    }),
    { numRuns: 25 },
  );
});

test("positions and lags go with a bucket; a lag counts for one to two minutes", () => {
  const nowMs = 1_700_000_000_000;
  const taken = { ids: [], positions: { "stream/1": "900719925474099300" }, arrivalMs: nowMs - 5_000 };
  const bucket = decodeBucket(encodeBucket(take(NEW_BUCKET, taken, nowMs, REMEMBER_MS)), "/ids");
  expect(bucket.positions["stream/1"]).toEqual({ sequence: "900719925474099300", takenMs: nowMs });
  expect(recentLag(bucket, nowMs)).toBe(5_000);
  expect(recentLag(bucket, nowMs + 60_000)).toBe(5_000);
  expect(recentLag(bucket, nowMs + 120_000)).toBe(0);
});
