import { connect, type ZooKeeper } from "../../lib/zookeeper";
import { WatchRecorder } from "../support/watch-recorder";
import { bytes, rejection } from "../support/zookeeper-fixture";
import { fourLetterWord, type LocalZooKeeper, startZooKeeper } from "../support/zookeeper-server";

let ensemble: LocalZooKeeper;
let client: ZooKeeper;

beforeAll(async () => {
  ensemble = await startZooKeeper({
    servers: 3,
    // A server without a quorum can open local sessions only; an ephemeral makes one global.
    config: {
      reconfigEnabled: "true",
      localSessionsEnabled: "true",
      localSessionsUpgradingEnabled: "true",
    },
    properties: { "zookeeper.skipACL": "yes", "readonlymode.enabled": "true" },
  });
  client = await connect({ connectString: ensemble.connectString, canBeReadOnly: true });
});

afterAll(async () => {
  await client?.close();
  await ensemble?.stop();
});

async function untilTrue(isSo: () => Promise<boolean> | boolean): Promise<void> {
  while (!(await isSo())) await new Promise((done) => setTimeout(done, 10));
}

test("without a quorum it serves reads, and goes on with its session when there is one again", async () => {
  await client.connected();
  await client.create("/e", bytes("x"), { mode: "ephemeral" });
  const recorder = new WatchRecorder();
  await client.addWatch("/", "persistentRecursive", recorder.listener);
  const others = ensemble.servers.filter(({ address }) => address !== client.server);
  await Promise.all(others.map((server) => server.kill("SIGKILL")));
  await untilTrue(() => client.isReadOnly);
  expect(client.state).toBe("connected");
  expect((await client.getData("/e")).data.toString()).toBe("x");
  expect(await rejection(client.setData("/e", bytes("y")))).toMatchObject({
    name: "NotReadOnlyError",
    outcome: "retryable",
    code: -119,
  });
  const needsWrites = connect({ connectString: ensemble.connectString, connectTimeoutMs: 500 });
  expect(await rejection(needsWrites)).toMatchObject({ name: "NotConnectedError" });
  await Promise.all(others.map((server) => server.restart()));
  await untilTrue(() => client.state === "connected" && !client.isReadOnly);
  await client.setData("/e", bytes("z"));
  expect(await client.getEphemerals("/e")).toEqual(["/e"]);
  expect(recorder.summary.at(-1)).toBe("dataChanged /e");
  expect(recorder.summary).not.toContain("ended expired");
});

// Last, because a member that is killed before it has written the new configuration down can't start again.
/** The leader that leaves, or the server in use, would take the connection with it. */
async function followerNotInUse(): Promise<number> {
  await client.sync("/");
  for (const server of ensemble.servers) {
    const answer = await fourLetterWord(server.port, "srvr");
    if (/^Mode: follower/m.test(answer) && server.address !== client.server) return server.id;
  }
  throw new Error("There are two followers, and one of them is not in use.");
}

test("members leave and join by reconfig, under the version of the configuration", async () => {
  await client.connected();
  const before = await client.getConfig();
  const members = before.text.match(/^server\.\d+=.*$/gm)!;
  expect(members).toHaveLength(3);
  expect(before.version).toBeGreaterThan(0n);
  const leaving = await followerNotInUse();
  const without = await client.reconfig({ leaving: String(leaving) });
  expect(without.text).not.toContain(`server.${leaving}=`);
  expect(without.version).toBeGreaterThan(before.version);
  const { port } = ensemble.servers[leaving - 1]!;
  const member = members.find((line) => line.startsWith(`server.${leaving}=`))!;
  const joining = `${member.replace(/;.*/, "")};127.0.0.1:${port}`;
  expect(await rejection(client.reconfig({ joining, fromVersion: before.version }))).toMatchObject({
    name: "BadVersionError",
  });
  const again = await client.reconfig({ joining, fromVersion: without.version });
  expect(again.text.match(/^server\.\d+=/gm)).toHaveLength(3);
  expect(await rejection(client.reconfig({ joining: "nonsense" }))).toMatchObject({ outcome: "terminal" });
});
