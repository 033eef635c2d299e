/**
 * Interoperability with kazoo, the Python client. It is installed with pip into a folder of the project's own
 * when it is not there; where that can't be done (no Python, no package index), the tests are skipped.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { join } from "node:path";
import { createInterface, type Interface } from "node:readline";
import { ensureKazoo } from "../../infra/zookeeper/kazoo";
import { connect, type Stat, type ZooKeeper } from "../../lib/zookeeper";
import { type LocalZooKeeper, startZooKeeper } from "../support/zookeeper-server";

const PYTHON = ensureKazoo();
const withKazoo = PYTHON ? describe : describe.skip;

withKazoo("kazoo", () => {
  let server: LocalZooKeeper;
  let client: ZooKeeper;
  let peer: ChildProcess;
  let answers: AsyncIterator<string>;
  let lines: Interface;

  beforeAll(async () => {
    server = await startZooKeeper();
    client = await connect({ connectString: server.connectString });
    peer = spawn(PYTHON!, [join(__dirname, "kazoo-peer.py"), server.connectString], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    lines = createInterface({ input: peer.stdout! });
    answers = lines[Symbol.asyncIterator]();
    expect((await answers.next()).value).toBe('"ready"');
  });

  afterAll(async () => {
    peer?.stdin?.end();
    lines?.close();
    await client?.close();
    await server?.stop();
  });

  async function ask(command: object): Promise<unknown> {
    peer.stdin!.write(`${JSON.stringify(command)}\n`);
    return JSON.parse((await answers.next()).value);
  }

  const texts = (stat: Stat) =>
    Object.fromEntries(Object.entries(stat).map(([key, value]) => [key, `${value}`]));

  test("reads what ours writes, stats included", async () => {
    await client.create("/ours", Buffer.from("ä1"));
    const stat = await client.setData("/ours", Buffer.from("ü2"));
    await client.create("/ours/child");
    const now = (await client.exists("/ours"))!;
    expect(now.mzxid).toBe(stat.mzxid);
    expect(await ask({ kind: "get", path: "/ours" })).toEqual({ data: "ü2", stat: texts(now) });
    expect(await ask({ kind: "children", path: "/ours" })).toEqual(["child"]);
  });

  test("writes what ours reads, and our watches hear of it", async () => {
    const watch = await client.watch("/", "persistentRecursive");
    await ask({ kind: "create", path: "/theirs", data: "日本" });
    expect((await watch.next()).value).toMatchObject({ event: { type: "created", path: "/theirs" } });
    const { data, stat } = await client.getData("/theirs");
    expect(data.toString()).toBe("日本");
    expect(await ask({ kind: "get", path: "/theirs" })).toEqual({ data: "日本", stat: texts(stat) });
    await ask({ kind: "create", path: "/theirs/e", data: "", ephemeral: true });
    expect((await client.exists("/theirs/e"))!.ephemeralOwner).not.toBe(0n);
    expect(await ask({ kind: "multi", path: "/multi" })).toEqual(["str", "ZnodeStat"]);
    expect((await client.getData("/multi")).stat.version).toBe(1);
  });
});
