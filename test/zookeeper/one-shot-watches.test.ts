import type { WatchNotification, ZooKeeper } from "../../lib/zookeeper";
import { BufferedWatch } from "../../lib/zookeeper/watch-iterator";
import type { TcpProxy } from "../support/tcp-proxy";
import { WatchRecorder } from "../support/watch-recorder";
import { bytes, useZooKeeper } from "../support/zookeeper-fixture";

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

/** Cuts the connection, and does something before the client may come back. */
async function meanwhile(act: () => Promise<unknown>): Promise<void> {
  proxy.refuse(true);
  proxy.cut();
  await act();
  proxy.refuse(false);
  await client.connected();
  await client.sync("/").catch(() => client.sync("/"));
}

describe("one-shot watches", () => {
  test("hear one event each, of what was read", async () => {
    const [data, exist, children] = [new WatchRecorder(), new WatchRecorder(), new WatchRecorder()];
    await client.getData(root, { watch: data.listener });
    await client.exists(`${root}/a`, { watch: exist.listener });
    await client.getChildren(root, { watch: children.listener });
    await client.create(`${root}/a`);
    await client.create(`${root}/b`);
    await client.setData(root, bytes("1"));
    await client.setData(root, bytes("2"));
    expect(data.summary).toEqual([`dataChanged ${root}`]);
    expect(exist.summary).toEqual([`created ${root}/a`]);
    expect(children.summary).toEqual([`childrenChanged ${root}`]);
  });

  test("of a znode that goes all hear of it; a read that fails leaves none", async () => {
    await client.create(`${root}/a`);
    const recorder = new WatchRecorder();
    const { listener } = recorder;
    await client.getData(`${root}/a`, { watch: listener });
    await client.getChildren(`${root}/a`, { watch: listener });
    await expect(client.getData(`${root}/no`, { watch: listener })).rejects.toMatchObject({ code: -101 });
    await client.delete(`${root}/a`);
    await client.create(`${root}/no`);
    expect(recorder.summary).toEqual([`deleted ${root}/a`, `deleted ${root}/a`]);
  });

  test("the same listener twice hears one event once", async () => {
    const recorder = new WatchRecorder();
    for (let time = 0; time < 3; time += 1) await client.exists(root, { watch: recorder.listener });
    await client.setData(root, bytes("x"));
    expect(recorder.summary).toEqual([`dataChanged ${root}`]);
  });

  test("hear after an outage what they missed, and nothing of a gap", async () => {
    const recorders = Array.from({ length: 5 }, () => new WatchRecorder());
    const [data, exist, children, deleted, quiet] = recorders as [
      WatchRecorder,
      WatchRecorder,
      WatchRecorder,
      WatchRecorder,
      WatchRecorder,
    ];
    await writer.create(`${root}/d`);
    await writer.create(`${root}/q`);
    await client.sync("/");
    await client.getData(root, { watch: data.listener });
    await client.exists(`${root}/a`, { watch: exist.listener });
    await client.getChildren(root, { watch: children.listener });
    await client.exists(`${root}/d`, { watch: deleted.listener });
    await client.getData(`${root}/q`, { watch: quiet.listener });
    await meanwhile(async () => {
      await writer.setData(root, bytes("x"));
      await writer.create(`${root}/a`);
      await writer.delete(`${root}/d`);
    });
    expect(data.summary).toEqual([`dataChanged ${root}`]);
    expect(exist.summary).toEqual([`created ${root}/a`]);
    expect(children.summary).toEqual([`childrenChanged ${root}`]);
    expect(deleted.summary).toEqual([`deleted ${root}/d`]);
    expect(quiet.summary).toEqual([]);
    await client.setData(`${root}/q`, bytes("x"));
    expect(quiet.summary).toEqual([`dataChanged ${root}/q`]);
  });

  test("of the same multi are all told, though the connection breaks between its events", async () => {
    const [first, second] = [new WatchRecorder(), new WatchRecorder()];
    for (const name of ["a", "b"]) await writer.create(`${root}/${name}`);
    await client.sync("/");
    await client.getData(`${root}/a`, { watch: first.listener });
    await client.getData(`${root}/b`, { watch: second.listener });
    const EVENT_BYTES = 4 + 16 + 8 + 4 + `${root}/a`.length;
    proxy.cutAfter(EVENT_BYTES + 1);
    await writer.multi(
      ["a", "b"].map((name) => ({ type: "setData", path: `${root}/${name}`, data: bytes("x") })),
    );
    await Promise.all([first.untilHeard(1), second.untilHeard(1)]);
    expect([...first.summary, ...second.summary]).toEqual([`dataChanged ${root}/a`, `dataChanged ${root}/b`]);
    expect(proxy.accepted).toBe(2);
  });

  test("thousands of them are armed again in requests that the server accepts", async () => {
    const recorder = new WatchRecorder();
    const paths = Array.from({ length: 12_000 }, (_, index) => `${root}/${"long-name-".repeat(10)}${index}`);
    await Promise.all(paths.map((path) => client.exists(path, { watch: recorder.listener })));
    await meanwhile(() => writer.create(paths[7]!));
    await writer.create(paths.at(-1)!);
    await recorder.untilHeard(2);
    expect(recorder.summary).toEqual([`created ${paths[7]}`, `created ${paths.at(-1)}`]);
  });

  test("are forgotten with their signal, and leave nothing on it when they fire", async () => {
    const [forgotten, kept] = [new WatchRecorder(), new WatchRecorder()];
    const [one, other] = [new AbortController(), new AbortController()];
    const listen = jest.spyOn(other.signal, "addEventListener");
    const unlisten = jest.spyOn(other.signal, "removeEventListener");
    await client.exists(root, { watch: forgotten.listener, watchSignal: one.signal });
    await client.exists(root, { watch: kept.listener, watchSignal: other.signal });
    one.abort();
    await client.getData(root, { watch: forgotten.listener, watchSignal: one.signal });
    await client.setData(root, bytes("x"));
    expect(forgotten.heard).toEqual([]);
    expect(kept.summary).toEqual([`dataChanged ${root}`]);
    expect(unlisten.mock.calls.length).toBe(listen.mock.calls.length);
  });

  test("end with the client", async () => {
    const recorder = new WatchRecorder();
    await client.exists(root, { watch: recorder.listener });
    await client.close();
    expect(recorder.summary).toEqual(["ended closed"]);
  });
});

describe("watches at the server", () => {
  test("can be asked for and removed, kind by kind", async () => {
    const recorder = new WatchRecorder();
    const check = async () =>
      Promise.all(
        (["data", "children", "persistent", "persistentRecursive", "any"] as const).map((kind) =>
          client.checkWatches(root, kind),
        ),
      );
    expect(await check()).toEqual([false, false, false, false, false]);
    await client.getData(root, { watch: recorder.listener });
    await client.getChildren(root, { watch: recorder.listener });
    await client.addWatch(root, "persistentRecursive", recorder.listener);
    const [data, children, persistent, recursive, any] = await check();
    expect({ data, children, persistent, recursive, any }).toEqual({
      data: true,
      children: true,
      persistent: false,
      recursive: true,
      any: true,
    });
    await client.removeWatches(root, "data");
    expect(recorder.summary).toEqual(["ended removed"]);
    await client.removeWatches(root, "persistentRecursive");
    await client.removeWatches(root, "children");
    expect(await check()).toEqual([false, false, false, false, false]);
    await writer.setData(root, bytes("x"));
    await client.sync("/");
    expect(recorder.summary).toEqual(["ended removed", "ended removed", "ended removed"]);
    await expect(client.removeWatches(root, "any")).rejects.toMatchObject({ name: "NoWatcherError" });
  });
});

describe("watches as iterators", () => {
  const event = (path: string): WatchNotification => ({
    type: "event",
    event: { type: "created", path, zxid: 1n },
  });

  test("give each notification, the gap among them, and end with the client", async () => {
    const summary: string[] = [];
    const watch = await client.watch(root, "persistentRecursive");
    const consuming = (async () => {
      for await (const each of watch) summary.push(each.type === "event" ? each.event.path : each.type);
    })();
    await client.create(`${root}/a`);
    await meanwhile(() => writer.create(`${root}/missed`));
    await client.create(`${root}/b`);
    await client.close();
    await consuming;
    expect(summary).toEqual([`${root}/a`, "gap", `${root}/b`, "ended"]);
    expect(await watch.next()).toEqual({ done: true, value: undefined });
  });

  test("a loop that is left takes its listener away", async () => {
    const watch = await client.watch(root, "persistent");
    await client.setData(root, bytes("x"));
    for await (const notification of watch) {
      expect(notification).toMatchObject({ type: "event", event: { path: root } });
      break;
    }
    await client.setData(root, bytes("y"));
    expect(await watch.next()).toEqual({ done: true, value: undefined });
  });

  test("several consumers share what comes, and all end", async () => {
    const watch = new BufferedWatch(10);
    const pulls = [watch.next(), watch.next(), watch.next()];
    watch.listener(event("/a"));
    watch.listener({ type: "ended", reason: "expired" });
    expect(await Promise.all(pulls)).toEqual([
      { done: false, value: event("/a") },
      { done: false, value: { type: "ended", reason: "expired" } },
      { done: true, value: undefined },
    ]);
  });

  test("a consumer that is too far behind finds one gap in place of what it missed", async () => {
    const watch = new BufferedWatch(3);
    for (let index = 0; index < 5; index += 1) watch.listener(event(`/${index}`));
    watch.listener({ type: "ended", reason: "closed" });
    const seen: string[] = [];
    for await (const each of watch) seen.push(each.type === "event" ? each.event.path : each.type);
    expect(seen).toEqual(["gap", "/4", "ended"]);
  });
});
