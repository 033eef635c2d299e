import { TokenBucket } from "../../lib/relay/token-bucket";

function bucket(perSecond: number) {
  let ms = 1_000_000;
  const clock = { now: () => ms, sleep: async () => undefined, random: () => 0, uniqueId: () => "" };
  const pass = (by: number): void => {
    ms += by;
  };
  return { bucket: new TokenBucket(clock, perSecond), pass };
}

test("it holds what one second brings, and no more after a long rest", () => {
  const { bucket: tokens, pass } = bucket(10);
  expect(tokens.waitMs).toBe(0);
  pass(3_600_000);
  tokens.take(10);
  expect(tokens.waitMs).toBe(100);
  pass(99);
  expect(tokens.waitMs).toBeGreaterThan(0);
  pass(1);
  expect(tokens.waitMs).toBe(0);
});

test("a commit may take more than is left, and the next one waits for the debt", () => {
  const { bucket: tokens, pass } = bucket(10);
  tokens.take(30);
  expect(tokens.waitMs).toBe(2_100);
  pass(2_100);
  expect(tokens.waitMs).toBe(0);
});

test("what is left is shared, at least one write to each; what was not used comes back", () => {
  const { bucket: tokens } = bucket(8);
  expect(tokens.share(3)).toBe(2);
  expect(tokens.share(100)).toBe(1);
  tokens.take(8);
  tokens.take(-3);
  expect(tokens.share(1)).toBe(3);
  tokens.take(-100);
  expect(tokens.share(1)).toBe(8);
});

test("a clock that is set back fills nothing, and no limit is none", () => {
  const { bucket: tokens, pass } = bucket(10);
  tokens.take(10);
  pass(-5_000);
  expect(tokens.waitMs).toBe(100);
  pass(100);
  expect(tokens.waitMs).toBe(0);
  const { bucket: free } = bucket(Number.POSITIVE_INFINITY);
  free.take(1e9);
  expect([free.waitMs, free.share(5)]).toEqual([0, undefined]);
});
