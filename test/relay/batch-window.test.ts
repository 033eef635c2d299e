import { BatchSize, nextBatchInMs } from "../../lib/relay/batch-window";

const NEVER = Number.POSITIVE_INFINITY;
const LIMITS = { maxBatchPaths: 10, lingerMs: 50 };
const NOW_MS = 1_000;

test.each([
  ["nothing waits", { taken: 0, untaken: 0, sinceMs: NEVER }, NEVER],
  ["nothing waits behind what was read", { taken: 3, untaken: 0, sinceMs: NEVER }, NEVER],
  ["the first has just come", { taken: 0, untaken: 1, sinceMs: NOW_MS }, 50],
  ["others came after the first", { taken: 0, untaken: 9, sinceMs: NOW_MS - 20 }, 30],
  ["the batch is full", { taken: 0, untaken: 10, sinceMs: NOW_MS }, 0],
  ["more than a batch waits", { taken: 0, untaken: 35, sinceMs: NOW_MS }, 0],
  ["the window has ended", { taken: 0, untaken: 1, sinceMs: NOW_MS - 50 }, 0],
  ["the window ended long ago", { taken: 0, untaken: 1, sinceMs: NOW_MS - 500 }, 0],
  ["it was given back", { taken: 0, untaken: 1, sinceMs: Number.NEGATIVE_INFINITY }, 0],
  ["it fills the batch that is being read", { taken: 7, untaken: 3, sinceMs: NOW_MS }, 0],
  ["it does not fill the batch that is being read", { taken: 7, untaken: 2, sinceMs: NOW_MS }, 50],
  ["its window ends behind the batch that is being read", { taken: 7, untaken: 2, sinceMs: 0 }, 0],
  ["the batch that is being read is full", { taken: 10, untaken: 40, sinceMs: 0 }, NEVER],
  ["the local clock has gone back", { taken: 0, untaken: 1, sinceMs: NOW_MS + 5_000 }, 50],
])("%s", (_, changes, expected) => {
  expect(nextBatchInMs(changes, LIMITS, NOW_MS)).toBe(expected);
});

test("without a window nothing waits", () => {
  const changes = { taken: 0, untaken: 1, sinceMs: NOW_MS };
  expect(nextBatchInMs(changes, { ...LIMITS, lingerMs: 0 }, NOW_MS)).toBe(0);
});

test("as many znodes fill a batch as would have its bytes, of the size of those delivered last", () => {
  const limits = { maxBatchPaths: 20, lingerMs: 50, batchBytes: 10_000, commitSizeBytes: 512 * 1_024 };
  const size = new BatchSize(limits);
  expect(size.paths).toBe(20);
  size.delivered(4, 4_000);
  expect(size.paths).toBe(10);
  // Values have become larger: half of the mean after one batch, all but a tenth of it after five.
  size.delivered(1, 3_000);
  expect(size.paths).toBe(5);
  for (let batch = 0; batch < 4; batch++) size.delivered(1, 3_000);
  expect(size.paths).toBe(3);
  size.delivered(1, 1_000_000);
  expect(size.paths).toBe(1);
  // Without a window nothing waits to be brought together.
  const now = new BatchSize({ ...limits, lingerMs: 0 });
  now.delivered(1, 3_000);
  expect(now.paths).toBe(20);
});
