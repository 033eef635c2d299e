import type { Op, ZooKeeper } from "../../lib/zookeeper";
import { JuteWriter } from "../../lib/zookeeper/codec/jute";
import { OpCode, writeRequestHeader, writeSetWatches2 } from "../../lib/zookeeper/records";
import { MAX_SET_WATCHES_BYTES, WatchRegistry } from "../../lib/zookeeper/watches";
import type { TcpProxy } from "../support/tcp-proxy";
import { WatchRecorder } from "../support/watch-recorder";
import { bytes, useZooKeeper } from "../support/zookeeper-fixture";

const CHANGES = 10_000;

const fixture = useZooKeeper();
let proxy: TcpProxy;
/** Through the proxy. */
let client: ZooKeeper;
/** Straight to the server. */
let writer: ZooKeeper;
let root: string;

beforeEach(() => {
  ({ proxy, client, writer, root } = fixture);
});

const untilState = (wanted: string) =>
  new Promise<void>((done) => {
    const stop = client.onState((state) => {
      if (state !== wanted) return;
      stop();
      done();
    });
  });

describe("watches on a healthy connection", () => {
  test(`a recursive watch hears each of ${CHANGES} changes in order, with its zxid`, async () => {
    const recorder = new WatchRecorder();
    await client.addWatch(root, "persistentRecursive", recorder.listener);
    const zxids: bigint[] = [];
    const write = async (index: number) => {
      const path = `${root}/${index % 100}`;
      const { stat } =
        index < 100 ? await writer.create(path) : { stat: await writer.setData(path, bytes(`${index}`)) };
      zxids.push(stat.mzxid);
    };
    await Promise.all(Array.from({ length: CHANGES }, (_, index) => write(index)));
    await recorder.untilHeard(CHANGES);
    const events = recorder.heard.map((heard) => (heard.type === "event" ? heard.event : undefined));
    expect(events).toHaveLength(CHANGES);
    expect(events.map((event) => event?.zxid)).toEqual(zxids);
    expect(new Set(events.slice(0, 100).map((event) => event?.type))).toEqual(new Set(["created"]));
  });

  test("a persistent watch hears of its znode and the list of its children only", async () => {
    const recorder = new WatchRecorder();
    await client.addWatch(`${root}/a`, "persistent", recorder.listener);
    await writer.create(`${root}/a`);
    await writer.create(`${root}/a/child`);
    await writer.setData(`${root}/a/child`, bytes("x"));
    await writer.setData(`${root}/a`, bytes("x"));
    await writer.delete(`${root}/a/child`);
    await writer.delete(`${root}/a`);
    await recorder.untilHeard(5);
    expect(recorder.summary).toEqual([
      `created ${root}/a`,
      `childrenChanged ${root}/a`,
      `dataChanged ${root}/a`,
      `childrenChanged ${root}/a`,
      `deleted ${root}/a`,
    ]);
  });

  test("both kinds on one znode hear what is theirs", async () => {
    const own = new WatchRecorder();
    const recursive = new WatchRecorder();
    await client.addWatch(root, "persistent", own.listener);
    await client.addWatch(root, "persistentRecursive", recursive.listener);
    await writer.create(`${root}/a`);
    await writer.setData(root, bytes("x"));
    await Promise.all([own.untilHeard(2), recursive.untilHeard(2)]);
    expect(own.summary).toEqual([`childrenChanged ${root}`, `dataChanged ${root}`]);
    expect(recursive.summary).toEqual([`created ${root}/a`, `dataChanged ${root}`]);
  });

  test("the events of a multi come one by one with one zxid", async () => {
    const recorder = new WatchRecorder();
    await client.addWatch(root, "persistentRecursive", recorder.listener);
    const ops: Op[] = ["a", "b", "c"].map((name) => ({ type: "create", path: `${root}/${name}` }));
    const { zxid } = await writer.multi(ops);
    await recorder.untilHeard(3);
    expect(recorder.heard).toMatchObject([{ event: { zxid } }, { event: { zxid } }, { event: { zxid } }]);
  });

  test("the event comes before any reply that reflects the change", async () => {
    const recorder = new WatchRecorder();
    await client.addWatch(root, "persistentRecursive", recorder.listener);
    for (let version = 1; version <= 100; version += 1) {
      await client.setData(root, bytes("x"));
      expect(recorder.heard).toHaveLength(version);
    }
  });

  test("a removed listener hears nothing more, and the others do", async () => {
    const removed = new WatchRecorder();
    const kept = new WatchRecorder();
    const watch = await client.addWatch(root, "persistent", removed.listener);
    await client.addWatch(root, "persistent", kept.listener);
    watch.remove();
    await client.setData(root, bytes("x"));
    expect(kept.heard).toHaveLength(1);
    expect(removed.heard).toHaveLength(0);
  });

  test("a client that is closed ends its watches", async () => {
    const recorder = new WatchRecorder();
    await client.addWatch(root, "persistent", recorder.listener);
    await client.close();
    expect(recorder.summary).toEqual(["ended closed"]);
  });
});

describe("watches across connections of one session", () => {
  test("are armed again, hear of the gap, and then of everything", async () => {
    const recorder = new WatchRecorder();
    await client.addWatch(root, "persistentRecursive", recorder.listener);
    for (let round = 1; round <= 5; round += 1) {
      proxy.refuse(true);
      proxy.cut();
      await writer.create(`${root}/missed-${round}`);
      proxy.refuse(false);
      await recorder.until(() => recorder.summary.filter((line) => line === "gap").length === round);
      await writer.create(`${root}/seen-${round}`);
      await recorder.until(() => recorder.summary.at(-1) === `created ${root}/seen-${round}`);
    }
    const expected = [1, 2, 3, 4, 5].flatMap((round) => ["gap", `created ${root}/seen-${round}`]);
    expect(recorder.summary).toEqual(expected);
  });

  test("events after a gap are complete while a writer goes on", async () => {
    const recorder = new WatchRecorder();
    await client.addWatch(root, "persistentRecursive", recorder.listener);
    let isWriting = true;
    let last = 0n;
    const writing = (async () => {
      while (isWriting) last = (await writer.setData(root, bytes("x"))).mzxid;
    })();
    for (let round = 1; round <= 5; round += 1) {
      await recorder.until(() => recorder.heard.at(-1)?.type === "event");
      const gaps = () => recorder.summary.filter((line) => line === "gap").length;
      proxy.cut();
      await recorder.until(() => gaps() === round);
      const at = recorder.heard.length;
      await recorder.untilHeard(at + 20);
    }
    isWriting = false;
    await writing;
    const zxidOf = (index: number) => {
      const notification = recorder.heard[index];
      return notification?.type === "event" ? notification.event.zxid : undefined;
    };
    await recorder.until(() => zxidOf(recorder.heard.length - 1) === last);
    // The writer is alone, so its zxids are dense: only a gap may leave one out.
    for (let index = 1; index < recorder.heard.length; index += 1) {
      const [before, after] = [zxidOf(index - 1), zxidOf(index)];
      if (before !== undefined && after !== undefined) expect(after - before).toBe(1n);
    }
  });

  test("the queue waits until watches are armed", async () => {
    const recorder = new WatchRecorder();
    await client.addWatch(root, "persistentRecursive", recorder.listener);
    const suspended = untilState("suspended");
    proxy.cut();
    await suspended;
    await client.create(`${root}/queued`);
    expect(recorder.summary).toEqual(["gap", `created ${root}/queued`]);
  });

  test("thousands of them, in requests that the server accepts", async () => {
    const recorder = new WatchRecorder();
    const paths = Array.from({ length: 6_000 }, (_, index) => `${root}/${"long-name-".repeat(10)}${index}`);
    await Promise.all(paths.map((path) => client.addWatch(path, "persistent", recorder.listener)));
    const suspended = untilState("suspended");
    proxy.cut();
    await suspended;
    await client.connected();
    expect(recorder.summary).toEqual(paths.map(() => "gap"));
    await writer.create(paths[0]!);
    await writer.create(paths.at(-1)!);
    await recorder.untilHeard(paths.length + 2);
    expect(proxy.accepted).toBe(2);
  });
});

describe("the registry", () => {
  test("re-arms in chunks below the limit, each path once", () => {
    const registry = new WatchRegistry();
    const paths = Array.from({ length: 5_000 }, (_, index) => `/${"x".repeat(50)}${index}`);
    for (const path of paths) {
      registry.add(path, "persistent", () => undefined);
      registry.add(path, "persistent", () => undefined);
      registry.add(path, "persistentRecursive", () => undefined);
    }
    const requests = registry.rearming(3n);
    expect(requests.length).toBeGreaterThan(1);
    expect(requests.flatMap((request) => request.persistent)).toEqual(paths);
    expect(requests.flatMap((request) => request.persistentRecursive)).toEqual(paths);
    for (const { persistent, persistentRecursive } of requests) {
      const size = [...persistent, ...persistentRecursive].reduce(
        (sum, path) => sum + 4 + Buffer.byteLength(path),
        0,
      );
      expect(size).toBeLessThanOrEqual(MAX_SET_WATCHES_BYTES);
    }
  });

  test("re-arms in smaller chunks where the server takes less", () => {
    const registry = new WatchRegistry();
    const paths = Array.from({ length: 500 }, (_, index) => `/${"ü".repeat(50)}${index}`);
    for (const path of paths) registry.add(path, "persistent", () => undefined);
    const requests = registry.rearming(3n, 1_000);
    expect(requests.flatMap((request) => request.persistent)).toEqual(paths);
    for (const watches of requests) {
      const writer = new JuteWriter();
      writeRequestHeader(writer, 1, OpCode.setWatches2);
      writeSetWatches2(writer, watches);
      expect(writer.take().length).toBeLessThanOrEqual(1_000);
    }
  });

  test("keeps nothing of a watch that is removed", () => {
    const registry = new WatchRegistry();
    const removals = ["/a", "/a", "/b"].map((path) => registry.add(path, "persistent", () => undefined));
    for (const remove of removals) remove();
    expect(registry.isEmpty).toBe(true);
    expect(registry.rearming(0n)).toEqual([]);
  });
});
