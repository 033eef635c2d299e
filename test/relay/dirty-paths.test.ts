import { DirtyPaths } from "../../lib/relay/dirty-paths";
import type { WatchedEventType } from "../../lib/zookeeper";

let dirty: DirtyPaths;
let nowMs = 0;

beforeEach(() => {
  dirty = new DirtyPaths(() => nowMs);
  dirty.resume();
});

function hear(path: string, zxid: bigint, type: WatchedEventType = "dataChanged"): void {
  dirty.heard({ type, path, zxid });
}

/** Read at a zxid after all that was heard, with the latest mark before it. */
const done = (...paths: string[]) =>
  new Map(paths.map((path) => [path, { zxid: 1_000n, order: dirty.latest }]));

const zxids = (path: string, zxid: bigint): bigint[] =>
  dirty.heardUpTo(path, zxid).events.map((each) => each.zxid);

test("paths come in the order in which they became dirty, each once", () => {
  for (const path of ["/c", "/a", "/c", "/b", "/a"]) hear(path, 1n);
  expect(dirty.take(2)).toEqual(["/c", "/a"]);
  expect(dirty.untaken).toBe(1);
  expect(dirty.size).toBe(3);
  dirty.giveBack(["/c", "/a"]);
  expect(dirty.take(10)).toEqual(["/c", "/a", "/b"]);
});

test("who was taken is nobody else's until it is delivered, whatever is heard of it meanwhile", () => {
  hear("/a", 1n);
  expect(dirty.take(10)).toEqual(["/a"]);
  const order = dirty.latest;
  hear("/a", 2n);
  dirty.suspected("/a");
  expect(dirty.take(10)).toEqual([]);
  dirty.delivered("/a", 1n, order);
  expect(dirty.take(10)).toEqual(["/a"]);
  dirty.delivered("/a", 2n, dirty.latest);
  expect(dirty.take(10)).toEqual([]);
});

test("a path waits since its first change that was not delivered, and what was given back waits no more", () => {
  expect(dirty.untakenSinceMs).toBe(Number.POSITIVE_INFINITY);
  for (const [atMs, path] of [
    [10, "/a"],
    [20, "/b"],
    [30, "/a"],
    [40, "/c"],
  ] as const) {
    nowMs = atMs;
    hear(path, BigInt(atMs));
  }
  expect(dirty.untakenSinceMs).toBe(10);
  dirty.take(1);
  expect(dirty.untakenSinceMs).toBe(20);
  nowMs = 50;
  dirty.delivered("/a", 10n, dirty.latest);
  dirty.take(2);
  expect(dirty.untakenSinceMs).toBe(30);
  dirty.giveBack(["/b"]);
  expect(dirty.untakenSinceMs).toBe(Number.NEGATIVE_INFINITY);
});

test("a read accounts for the events that it has seen, and for no others", () => {
  for (const zxid of [1n, 2n, 5n]) hear("/a", zxid);
  expect(zxids("/a", 2n)).toEqual([1n, 2n]);
  dirty.delivered("/a", 2n, dirty.latest);
  expect(zxids("/a", 9n)).toEqual([5n]);
  dirty.delivered("/a", 5n, dirty.latest);
  expect(dirty.size).toBe(0);
  expect(dirty.heardUpTo("/a", 9n)).toEqual({ events: [], complete: false });
});

test("a path that stays dirty goes to the end, so that it starves no other", () => {
  hear("/busy", 1n);
  hear("/other", 2n);
  hear("/busy", 3n);
  dirty.delivered("/busy", 1n, dirty.latest);
  expect(dirty.take(10)).toEqual(["/other", "/busy"]);
});

test("a path waits since the first mark that is not accounted for", () => {
  hear("/a", 1n);
  hear("/b", 2n);
  const barrier = dirty.latest;
  hear("/a", 3n);
  expect(dirty.waitsSince(barrier, done())).toBe(true);
  expect(dirty.waitsSince(barrier, done("/a", "/b"))).toBe(false);
  dirty.delivered("/b", 2n, barrier);
  dirty.delivered("/a", 1n, barrier);
  expect(dirty.take(1)).toEqual(["/a"]);
  expect(dirty.waitsSince(barrier, done())).toBe(false);
  expect(dirty.waitsSince(dirty.latest, done())).toBe(true);
});

test("an interruption makes counts lower bounds until all is walked again", () => {
  hear("/a", 1n);
  expect(dirty.heardUpTo("/a", 1n).complete).toBe(true);
  dirty.interrupt();
  hear("/b", 2n);
  expect(dirty.heardUpTo("/a", 1n).complete).toBe(false);
  expect(dirty.heardUpTo("/b", 2n).complete).toBe(false);
  dirty.resume();
  expect(dirty.heardUpTo("/a", 1n).complete).toBe(false);
  hear("/c", 3n);
  expect(dirty.heardUpTo("/c", 3n).complete).toBe(true);
  hear("/a", 4n);
  dirty.delivered("/a", 1n, dirty.latest);
  expect(dirty.heardUpTo("/a", 4n)).toMatchObject({ complete: true });
});

test("a suspicion that came after the read was sent keeps the path dirty", () => {
  dirty.suspected("/a");
  const sent = dirty.latest;
  dirty.suspected("/a");
  dirty.delivered("/a", 10n, sent);
  expect(dirty.take(1)).toEqual(["/a"]);
  expect(dirty.heardUpTo("/a", 10n).complete).toBe(false);
  dirty.delivered("/a", 10n, dirty.latest);
  expect(dirty.size).toBe(0);
});

test("events without a zxid are suspicions", () => {
  hear("/a", -1n);
  expect(dirty.heardUpTo("/a", 100n)).toEqual({ events: [], complete: false });
});

test("a path that is written faster than it is read keeps a bounded number of events", () => {
  for (let zxid = 1n; zxid <= 20_000n; zxid += 1n) hear("/a", zxid);
  const { events, complete } = dirty.heardUpTo("/a", 20_000n);
  expect(events.length).toBeLessThanOrEqual(10_000);
  expect(complete).toBe(false);
  dirty.delivered("/a", 20_000n, dirty.latest);
  expect(dirty.size).toBe(0);
});

test("a read that was refused makes the next count a lower bound, and one that succeeds ends that", () => {
  hear("/a", 1n);
  dirty.delivered("/a", 1n, dirty.latest);
  dirty.unread("/a");
  hear("/a", 2n);
  expect(dirty.heardUpTo("/a", 2n).complete).toBe(false);
  dirty.delivered("/a", 2n, dirty.latest);
  hear("/a", 3n);
  expect(dirty.heardUpTo("/a", 3n).complete).toBe(true);
});

test("what was read before some of its events still waits for those", () => {
  hear("/a", 1n);
  hear("/b", 2n);
  const read = (zxid: bigint) => ({ zxid, order: dirty.latest });
  const sent = new Map([
    ["/a", read(1n)],
    ["/b", read(2n)],
  ]);
  expect(dirty.waitsSince(dirty.latest, sent)).toBe(false);
  hear("/c", 3n);
  const beforeMore = dirty.latest;
  const withC = new Map([...sent, ["/c", read(3n)]]);
  hear("/a", 4n);
  const barrier = dirty.latest;
  expect(dirty.waitsSince(barrier, withC)).toBe(true);
  expect(dirty.waitsSince(beforeMore, withC)).toBe(false);
  const again = new Map([...withC, ["/a", { zxid: 4n, order: 2 }]]);
  expect(dirty.waitsSince(barrier, again)).toBe(false);
  dirty.suspected("/b");
  expect(dirty.waitsSince(dirty.latest, again)).toBe(true);
});

test("a path that stays dirty over a gap has not been heard of completely until it is delivered after it", () => {
  hear("/a", 1n);
  hear("/a", 5n);
  dirty.interrupt();
  dirty.delivered("/a", 1n, dirty.latest);
  expect(dirty.heardUpTo("/a", 9n)).toMatchObject({ complete: false });
  dirty.resume();
  dirty.delivered("/a", 5n, dirty.latest);
  hear("/a", 7n);
  expect(dirty.heardUpTo("/a", 9n)).toMatchObject({ complete: true });
});

test("what stays after a delivery is all that happened since, unless something was suspected meanwhile", () => {
  hear("/a", 1n);
  hear("/a", 5n);
  dirty.delivered("/a", 1n, dirty.latest);
  expect(dirty.heardUpTo("/a", 9n)).toMatchObject({ complete: true });
  const sent = dirty.latest;
  dirty.suspected("/a");
  dirty.delivered("/a", 5n, sent);
  expect(dirty.heardUpTo("/a", 9n)).toMatchObject({ complete: false });
});

test("what another relay has delivered is done with, what came after it is not", () => {
  hear("/a", 1n);
  hear("/a", 5n);
  hear("/b", 2n);
  dirty.suspected("/c", 3n);
  dirty.suspected("/d");
  dirty.suspected("/e", 9n);
  for (const path of ["/a", "/b", "/c", "/d", "/e", "/none"]) dirty.deliveredElsewhere(path, 4n);
  expect(dirty.take(10)).toEqual(["/a", "/d", "/e"]);
  expect(zxids("/a", 9n)).toEqual([5n]);
});
