/**
 * The same things on every kind of server: Debian's 3.8 and the newest, alone and as an ensemble of three, plain and
 * over TLS, with and without SASL. `MATRIX=all` runs all sixteen; by default one of each kind.
 */
import { existsSync } from "node:fs";
import { connect, type ZooKeeper, type ZooKeeperOptions } from "../../lib/zookeeper";
import { Credentials } from "../support/secure-server";
import { WatchRecorder } from "../support/watch-recorder";
import { bytes, rejection } from "../support/zookeeper-fixture";
import { type LocalZooKeeper, startZooKeeper } from "../support/zookeeper-server";

const DEBIAN_JAR = "/usr/share/java/zookeeper.jar";
const VERSIONS = existsSync(DEBIAN_JAR) ? (["installed", "system"] as const) : (["installed"] as const);
const MODES = ["plain", "plain and SASL", "TLS", "TLS and SASL"] as const;
type Mode = (typeof MODES)[number];

const isAll = process.env.MATRIX === "all";
const ENSEMBLES = VERSIONS.flatMap((version) =>
  ([1, 3] as const).filter((servers) => isAll || servers === 3).map((servers) => ({ version, servers })),
);
const LARGE_BYTES = 900_000;

const credentials = new Credentials();
afterAll(() => credentials.remove());

function optionsOf(mode: Mode): Partial<ZooKeeperOptions> {
  return {
    tls: mode.startsWith("TLS") && credentials.tls,
    sasl: mode.endsWith("SASL") ? credentials.sasl : undefined,
    sessionTimeoutMs: 20_000,
  };
}

function identitiesOf(mode: Mode): string[] {
  const known = ["ip 127.0.0.1"];
  if (mode.endsWith("SASL")) known.push("sasl bob");
  if (mode.startsWith("TLS")) known.push("x509 CN=client-of-tests");
  return known;
}

describe.each(ENSEMBLES)("$servers of the $version version", ({ version, servers }) => {
  let ensemble: LocalZooKeeper;
  beforeAll(async () => {
    ensemble = await startZooKeeper({ version, servers, ...credentials.serverOptions() });
  });
  afterAll(() => ensemble?.stop());

  test.each(isAll ? MODES : (["plain", "TLS and SASL"] as const))("%s", async (mode) => {
    const { connectString } = ensemble;
    const client = await connect({ connectString, ...optionsOf(mode) });
    try {
      const root = `/${mode.replaceAll(" ", "-")}`;
      const identities = (await client.whoAmI()).map(({ scheme, user }) => `${scheme} ${user}`);
      expect(identities.sort()).toEqual(identitiesOf(mode));
      await changesAndWatches(client, root);
      await serverDies(ensemble, client, root);
    } finally {
      await client.close();
    }
  });
});

async function changesAndWatches(client: ZooKeeper, root: string): Promise<void> {
  await client.create(root);
  const recorder = new WatchRecorder();
  const watch = await client.addWatch(root, "persistentRecursive", recorder.listener);
  const { results } = await client.multi([
    { type: "create", path: `${root}/a`, data: bytes("one") },
    { type: "setData", path: `${root}/a`, data: bytes("two"), version: 0 },
    { type: "create", path: `${root}/q-`, mode: "persistent-sequential" },
  ]);
  expect(results[2]).toMatchObject({ path: `${root}/q-0000000001` });
  const conflict = rejection(client.multi([{ type: "check", path: `${root}/a`, version: 0 }]));
  expect(await conflict).toMatchObject({ name: "MultiError", index: 0, code: -103 });
  await client.setData(`${root}/a`, Buffer.alloc(LARGE_BYTES, "x"), 1);
  expect((await client.getData(`${root}/a`)).data).toHaveLength(LARGE_BYTES);
  const heard = [`created ${root}/a`, `dataChanged ${root}/a`, `created ${root}/q-0000000001`];
  expect(recorder.summary).toEqual([...heard, `dataChanged ${root}/a`]);
  watch.remove();
}

/** The server in use is killed: the session goes on with its ephemeral, its watches and its rights. */
async function serverDies(ensemble: LocalZooKeeper, client: ZooKeeper, root: string): Promise<void> {
  const [recorder, once] = [new WatchRecorder(), new WatchRecorder()];
  const { stat } = await client.create(`${root}/e`, bytes("x"), { mode: "ephemeral" });
  await client.addWatch(root, "persistentRecursive", recorder.listener);
  await client.create(`${root}/mine`, bytes("x"), { acl: [{ perms: 31, scheme: "ip", id: "127.0.0.1" }] });
  await client.exists(`${root}/mine`, { watch: once.listener });
  const victim = ensemble.servers.find(({ address }) => address === client.server)!;
  await victim.kill("SIGKILL");
  if (ensemble.servers.length === 1) await victim.restart();
  await recorder.untilType("gap");
  expect(await client.exists(`${root}/e`)).toEqual(stat);
  await client.setData(`${root}/mine`, bytes("y"));
  expect(recorder.summary.at(-1)).toBe(`dataChanged ${root}/mine`);
  expect(once.summary).toEqual([`dataChanged ${root}/mine`]);
  expect(client.state).toBe("connected");
  if (ensemble.servers.length > 1) await victim.restart();
}
