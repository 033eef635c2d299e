import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { type ConnectionState, connect, type ZooKeeper } from "../../lib/zookeeper";
import { WatchRecorder } from "../support/watch-recorder";
import { bytes } from "../support/zookeeper-fixture";
import { fourLetterWord, type LocalZooKeeper, startZooKeeper } from "../support/zookeeper-server";

const SUPPORT = join(__dirname, "..", "support");
const DEBIAN_JAR = "/usr/share/java/zookeeper.jar";

function untilState(client: ZooKeeper, wanted: ConnectionState): Promise<void> {
  return new Promise((done) => {
    const stop = client.onState((state) => {
      if (state !== wanted) return;
      stop();
      done();
    });
  });
}

/** Runs a TypeScript program of test/support; resolves with its exit code and what it printed. */
function program(name: string, ...args: string[]) {
  const child = spawn(process.execPath, ["--import", "tsx", join(SUPPORT, name), ...args], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  let output = "";
  child.stdout.on("data", (chunk) => {
    output += chunk;
  });
  const ended = once(child, "close").then(([code]) => ({ code, output }));
  return { child, ended, firstLine: once(child.stdout, "data").then(([chunk]) => String(chunk).trim()) };
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

describe("one server", () => {
  test("killed and started again, it keeps the session, its ephemerals and its data", async () => {
    const server = await startZooKeeper();
    const client = await connect({ connectString: server.connectString });
    try {
      const recorder = new WatchRecorder();
      await client.addWatch("/", "persistentRecursive", recorder.listener);
      const { stat } = await client.create("/e", bytes("x"), { mode: "ephemeral" });
      const suspended = untilState(client, "suspended");
      await server.servers[0]!.kill("SIGKILL");
      await suspended;
      const waiting = client.create("/later");
      await server.servers[0]!.restart();
      await waiting;
      expect((await client.getData("/e")).stat).toEqual(stat);
      expect(recorder.summary).toEqual(["created /e", "gap", "created /later"]);
    } finally {
      await client.close();
      await server.stop();
    }
  });

  test("paused, it is noticed; going on, it has the session still", async () => {
    const server = await startZooKeeper();
    const client = await connect({ connectString: server.connectString, sessionTimeoutMs: 4_000 });
    const [only] = server.servers;
    try {
      const { stat } = await client.create("/e", bytes("x"), { mode: "ephemeral" });
      const suspended = untilState(client, "suspended");
      await only!.kill("SIGSTOP");
      await suspended;
      await only!.kill("SIGCONT");
      await client.connected();
      expect(await client.exists("/e")).toEqual(stat);
    } finally {
      await only!.kill("SIGCONT");
      await client.close();
      await server.stop();
    }
  });

  (existsSync(DEBIAN_JAR) ? test : test.skip)("of the system's older version serves, too", async () => {
    const server = await startZooKeeper({ version: "system" });
    const client = await connect({ connectString: server.connectString });
    try {
      const recorder = new WatchRecorder();
      await client.addWatch("/", "persistentRecursive", recorder.listener);
      const { results } = await client.multi([
        { type: "create", path: "/a" },
        { type: "setData", path: "/a", data: bytes("x"), version: 0 },
      ]);
      expect(results).toMatchObject([
        { type: "create", path: "/a", stat: undefined },
        { type: "setData", stat: { version: 1 } },
      ]);
      await recorder.untilHeard(2);
      expect(recorder.heard).toMatchObject([{ event: { zxid: -1n } }, { event: { zxid: -1n } }]);
      await expect(client.multi([{ type: "check", path: "/a", version: 0 }])).rejects.toMatchObject({
        index: 0,
      });
      await client.close();
    } finally {
      await server.stop();
    }
  });
});

describe("an ensemble of three", () => {
  test("a client goes on with its session at another server, as often as its server dies", async () => {
    const ensemble = await startZooKeeper({ servers: 3 });
    const { connectString, servers } = ensemble;
    const client = await connect({ connectString });
    try {
      const { stat } = await client.create("/e", bytes(""), { mode: "ephemeral" });
      for (let round = 0; round < 2; round += 1) {
        // An election makes all servers hang up, so it is not known beforehand where the client is.
        await client.sync("/");
        const victim = servers.find(({ address }) => address === client.server)!;
        const suspended = untilState(client, "suspended");
        await victim.kill("SIGKILL");
        await suspended;
        await client.connected();
        expect(await client.exists("/e")).toEqual(stat);
        await client.setData("/", bytes(victim.address));
        await victim.restart();
      }
      expect(client.state).toBe("connected");
    } finally {
      await client.close();
      await ensemble.stop();
    }
  });
});

describe("processes", () => {
  let server: LocalZooKeeper;
  beforeAll(async () => {
    server = await startZooKeeper();
  });
  afterAll(() => server?.stop());

  test("a process whose client is closed ends by itself", async () => {
    const { ended } = program("program-using-client.ts", server.connectString);
    expect(await ended).toEqual({ code: 0, output: "created\n" });
  });

  test("a session goes over to another process with its ephemerals, and ends with that one", async () => {
    const { connectString } = server;
    const client = await connect({ connectString });
    const observer = await connect({ connectString });
    await client.create("/e", bytes("x"), { mode: "ephemeral" });
    const { child, ended } = program("program-taking-session.ts", connectString);
    child.stdin.end((await client.handOver()).toBytes());
    const { code, output } = await ended;
    expect(code).toBe(0);
    expect(JSON.parse(output)).toEqual({ isResumed: true, ephemerals: ["/e"] });
    await observer.sync("/");
    expect(await observer.exists("/from-the-heir")).not.toBeNull();
    expect(await observer.exists("/e")).toBeNull();
    await observer.close();
  });

  test("a server does not outlive a parent that is killed, nor does its folder", async () => {
    const { child, ended, firstLine } = program("program-starting-server.ts");
    const { pid, port, directory } = JSON.parse(await firstLine) as {
      pid: number;
      port: number;
      directory: string;
    };
    expect(await fourLetterWord(port, "ruok")).toBe("imok");
    child.kill("SIGKILL");
    await ended;
    while (isAlive(pid) || existsSync(directory)) await new Promise((done) => setTimeout(done, 10));
    expect(await fourLetterWord(port, "ruok")).toBe("");
  });
});
