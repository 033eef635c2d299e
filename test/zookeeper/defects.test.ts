/**
 * The defects that were reproduced in other clients, and the test that shows each of them absent here.
 *
 * | Defect elsewhere | Test here |
 * |---|---|
 * | version 0 is taken for "any" in check, setData and delete | operations: "version 0 means version 0" (single and multi) |
 * | a black-holed network still looks connected | faults: "%s is noticed within the read timeout" |
 * | a connection cut in the middle of a reply never recovers | faults: "is recovered from, wherever it was cut" |
 * | 12,000 watches in one request cause a reconnect loop | one-shot-watches: "thousands of them are armed again …" |
 * | queued requests are sent before re-authentication | below |
 * | an xid past 2^31 throws | pipeline: "xids run from 1, and start again …" |
 * | an automatic retry creates a sequential znode twice | faults: "is not sent again: …" |
 * | watchers hear nothing of session expiry; a dead handle is left | faults: "is said to everyone, and followed by a new one" |
 * | each fired watch leaks its closure | below |
 * | a null SASL token crashes a server's handler | security: "answers a challenge with everything …" |
 * | persistent watches get no events after a gap, silently | watches: "are armed again, hear of the gap, …" |
 * | a process that was busy blames the server | faults: "a process that was busy …" |
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { connect, type WatchListener, type ZooKeeper } from "../../lib/zookeeper";
import type { TcpProxy } from "../support/tcp-proxy";
import { bytes, useZooKeeper } from "../support/zookeeper-fixture";

const ELSEWHERE: Readonly<Record<string, readonly string[]>> = {
  "operations.test.ts": ["version 0 means version 0", "version 0 means version 0 in %s"],
  "faults.test.ts": [
    "%s is noticed within the read timeout",
    "is recovered from, wherever it was cut",
    "is not sent again: a sequential create makes one znode",
    "is said to everyone, and followed by a new one",
    "a process that was busy for longer than the read timeout keeps its connection",
  ],
  "one-shot-watches.test.ts": ["thousands of them are armed again in requests that the server accepts"],
  "pipeline.test.ts": ["xids run from 1, and start again at 1 after the greatest int32"],
  "security.test.ts": [
    "answers a challenge with everything that the RFC asks for, and checks the server's proof",
  ],
  "watches.test.ts": ["are armed again, hear of the gap, and then of everything"],
};

/** How often a session is established again (`SOAK_ROUNDS`, default: 300). */
const ROUNDS = Number(process.env.SOAK_ROUNDS ?? 300);
/** Time runs so much faster for the client, else the pauses between its attempts would be the test's length. */
const SPEED = 20;
const TIMEOUT_MS = 300_000 + ROUNDS * 200;
const HEAP_GROWTH_LIMIT_BYTES = 4 * 1024 * 1024;

/** The collector, which jest does not hand out. */
function collectGarbage(): void {
  setFlagsFromString("--expose-gc");
  (runInNewContext("gc") as () => void)();
}

const fixture = useZooKeeper({ client: false });
let proxy: TcpProxy;
let client: ZooKeeper;

beforeEach(() => {
  ({ proxy } = fixture);
});

afterEach(() => client?.close());

test.each(Object.entries(ELSEWHERE))("%s has the tests that the table names", (file, names) => {
  const text = readFileSync(join(__dirname, file), "utf8");
  for (const name of names) expect(text).toContain(`"${name}"`);
});

test("queued requests are sent after re-authentication", async () => {
  const authentication = [{ scheme: "digest", auth: "user:secret" }];
  client = await connect({ connectString: proxy.address, authentication });
  await client.create("/mine", bytes("x"), { acl: [{ perms: 31, scheme: "auth", id: "" }] });
  for (let round = 0; round < 10; round += 1) {
    proxy.cut();
    await client.sync("/").catch(() => undefined);
    const reads = Array.from({ length: 20 }, () => client.getData("/mine"));
    for (const { data } of await Promise.all(reads)) expect(data.toString()).toBe("x");
  }
});

test("a watch that has fired leaves nothing behind", async () => {
  client = await connect({ connectString: proxy.address });
  await client.create("/watched");
  const listeners: WeakRef<WatchListener>[] = [];
  const watchOnce = async () => {
    const payload = Buffer.alloc(1_000);
    const listener: WatchListener = () => payload.fill(1);
    listeners.push(new WeakRef(listener));
    await client.getData("/watched", { watch: listener });
  };
  for (let round = 0; round < 200; round += 1) {
    await watchOnce();
    await client.setData("/watched", bytes("x"));
  }
  await new Promise((done) => setImmediate(done));
  collectGarbage();
  expect(listeners.filter((listener) => listener.deref() !== undefined).length).toBeLessThan(5);
});

test(
  `${ROUNDS} re-establishments in a row leave no memory, sockets or timers behind`,
  async () => {
    const clock = {
      now: () => performance.now() * SPEED,
      setTimeout: (callback: () => void, delayMs: number) => setTimeout(callback, delayMs / SPEED),
      clearTimeout: (timer: unknown) => clearTimeout(timer as NodeJS.Timeout),
    };
    const options = { sessionTimeoutMs: 40_000, connectTimeoutMs: 300_000, clock };
    client = await connect({ connectString: proxy.address, ...options });
    await client.create("/e", bytes(""), { mode: "ephemeral" });
    let gaps = 0;
    await client.addWatch("/e", "persistent", (notification) => {
      if (notification.type === "gap") gaps += 1;
    });
    const round = async () => {
      const before = gaps;
      proxy.cut();
      while (gaps === before) await client.sync("/").catch(() => undefined);
    };
    const warmUp = Math.ceil(ROUNDS / 10);
    for (let index = 0; index < warmUp; index += 1) await round();
    collectGarbage();
    const heapBefore = process.memoryUsage().heapUsed;
    const resourcesBefore = process.getActiveResourcesInfo().length;
    for (let index = warmUp; index < ROUNDS; index += 1) await round();
    await new Promise((done) => setImmediate(done));
    collectGarbage();
    expect(process.memoryUsage().heapUsed - heapBefore).toBeLessThan(HEAP_GROWTH_LIMIT_BYTES);
    expect(process.getActiveResourcesInfo().length).toBeLessThanOrEqual(resourcesBefore + 5);
    expect(proxy.connections).toBe(1);
    expect(await client.getEphemerals("/")).toEqual(["/e"]);
  },
  TIMEOUT_MS,
);
