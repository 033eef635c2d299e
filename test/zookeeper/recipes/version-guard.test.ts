import { existsSync } from "node:fs";
import { connect, type ZooKeeper } from "../../../lib/zookeeper";
import { faultsOf, guardVersions, UnsafeServerError } from "../../../lib/zookeeper/recipes";
import { startZooKeeper, type ZooKeeperServerOptions } from "../../support/zookeeper-server";

const DEBIAN_JAR = "/usr/share/java/zookeeper.jar";

describe("what is known of a version", () => {
  test.each([
    ["3.4.14", ["refuse no persistent watches"]],
    ["3.5.10", ["refuse no persistent watches"]],
    ["3.6.4", ["warn CVE-2024-23944", "warn ZOOKEEPER-4785", "warn ZOOKEEPER-4219"]],
    ["3.8.0", ["warn CVE-2024-23944", "warn ZOOKEEPER-4785", "warn ZOOKEEPER-4219"]],
    ["3.8.3", ["warn CVE-2024-23944", "warn ZOOKEEPER-4785"]],
    ["3.8.4", ["warn ZOOKEEPER-4785"]],
    ["3.8.5", []],
    ["3.9.1", ["warn CVE-2024-23944", "warn ZOOKEEPER-4785"]],
    ["3.9.2", []],
    ["3.9.3", ["refuse ZOOKEEPER-4925"]],
    ["3.9.4", []],
    ["3.10.0", []],
  ])("%s", (version, expected) => {
    expect(faultsOf(version).map(({ severity, issue }) => `${severity} ${issue}`)).toEqual(expected);
  });
});

/** A client whose servers say that they run these versions. */
function clientOf(...versions: (string | undefined)[]): ZooKeeper {
  const servers = versions.map((version, index) => ({ server: `h${index}:2181`, version }));
  return {
    server: "h0:2181",
    serverVersions: async () => servers,
    whoAmI: async () => [],
  } as unknown as ZooKeeper;
}

test("one bad server of three is named, with the issue and the remedy, unless it is allowed", async () => {
  const client = clientOf("3.9.6", "3.9.3", "3.8.4");
  const error = await guardVersions(client).catch((each) => each);
  expect(error).toBeInstanceOf(UnsafeServerError);
  expect(error).toMatchObject({ outcome: "terminal", findings: [{ server: "h1:2181", version: "3.9.3" }] });
  expect(error.message).toContain("h1:2181 runs 3.9.3: ZOOKEEPER-4925, committed data can be lost; upgrade");
  const findings = await guardVersions(client, { allow: ["ZOOKEEPER-4925"] });
  expect(findings.map(({ issue }) => issue)).toEqual(["ZOOKEEPER-4925", "ZOOKEEPER-4785"]);
});

async function guardReal(options: ZooKeeperServerOptions) {
  const server = await startZooKeeper(options);
  const client = await connect({ connectString: server.connectString });
  try {
    return { findings: await guardVersions(client), version: server.version, client };
  } finally {
    await client.close();
    await server.stop();
  }
}

test("the server of these tests is sound", async () => {
  expect((await guardReal({})).findings).toEqual([]);
});

test("a server that does not tell is a warning, with what can be found out otherwise", async () => {
  // "ruok" alone, so that the launcher's own question by srvr fails as well: it would wait for ever.
  expect(await guardVersions(clientOf(undefined, undefined))).toMatchObject([
    { version: undefined, issue: "unknown version", text: expect.stringContaining("3.7 or newer") },
    { version: undefined, issue: "unknown version", text: expect.stringMatching(/version; allow srvr/) },
  ]);
});

(existsSync(DEBIAN_JAR) ? test : test.skip)("the system's older server is warned about", async () => {
  const { findings } = await guardReal({ version: "system" });
  expect(findings.length).toBeGreaterThan(0);
  for (const finding of findings)
    expect(finding).toMatchObject({ severity: "warn", version: expect.stringMatching(/^3\./) });
});
