import type { ChangeKind } from "../../lib/checkpoint/znode-change";
import { SourcePaths, wantedKinds } from "../../lib/checkpoint/znode-source";
import { Manifest } from "../../lib/relay/manifest";
import { walk } from "../../lib/relay/walk";
import { connect, type ZooKeeper } from "../../lib/zookeeper";
import { type LocalZooKeeper, startZooKeeper } from "../support/zookeeper-server";

let server: LocalZooKeeper;
let client: ZooKeeper;
let root: string;
let tests = 0;

beforeAll(async () => {
  server = await startZooKeeper();
  client = await connect({ connectString: server.connectString });
});

afterAll(async () => {
  await client?.close();
  await server?.stop();
});

beforeEach(async () => {
  root = `/walk-${++tests}`;
  for (const path of ["", "/a", "/a/x", "/a/y", "/b", "/b/x"]) await client.create(root + path);
});

const walked = async (
  pattern: string,
  {
    manifest = new Manifest(),
    recursive = true,
    isExcluded = (_path: string): boolean => false,
    wanted = wantedKinds({}),
  } = {},
) => {
  const paths = new SourcePaths({ paths: [root + pattern], recursive });
  const whole = { different: [] as string[], unreadable: [] as string[], znodes: 0 };
  for await (const { different, unreadable, znodes } of walk(
    client,
    { paths, wanted, isExcluded },
    manifest,
  )) {
    whole.different.push(...different.map(({ path }) => path));
    whole.unreadable.push(...unreadable);
    whole.znodes += znodes;
  }
  return whole;
};

const below = (paths: readonly string[]): string[] => paths.map((path) => path.slice(root.length)).sort();

const UNKNOWN = { czxid: 1n, mzxid: 1n, version: 0, cversion: 0, aversion: 0 };

async function knowing(...paths: string[]): Promise<Manifest> {
  const manifest = new Manifest();
  for (const path of paths) {
    const stat = await client.exists(root + path);
    manifest.apply([[root + path, { ...UNKNOWN, ...stat }]]);
  }
  return manifest;
}

test("everything is different where nothing is known", async () => {
  const { different, znodes, unreadable } = await walked("");
  expect(below(different)).toEqual(["", "/a", "/a/x", "/a/y", "/b", "/b/x"]);
  expect({ znodes, unreadable }).toEqual({ znodes: 6, unreadable: [] });
});

test("only what was written, created or deleted since is different", async () => {
  const manifest = await knowing("", "/a", "/a/x", "/a/y", "/b", "/b/x", "/c", "/c/deep");
  await client.setData(`${root}/a`, Buffer.from("2"));
  await client.create(`${root}/a/new`);
  await client.delete(`${root}/b/x`);
  await client.create(`${root}/b/x`);
  const { different } = await walked("", { manifest });
  expect(below(different)).toEqual(["/a", "/a/new", "/b/x", "/c", "/c/deep"]);
});

test("a wildcard is walked only where it leads", async () => {
  const { different, znodes } = await walked("/*/x");
  expect(below(different)).toEqual(["/a/x", "/b/x"]);
  expect(znodes).toBe(5);
  expect(below((await walked("/a", { recursive: false })).different)).toEqual(["/a"]);
});

test("a source that does not deliver changed values does not look for them; lists and ACLs as it wants them", async () => {
  const manifest = await knowing("", "/a", "/a/x", "/a/y", "/b", "/b/x");
  await client.setData(`${root}/a`, Buffer.from("2"));
  await client.create(`${root}/b/new`);
  await client.setAcl(`${root}/b/x`, [{ perms: 31, scheme: "world", id: "anyone" }]);
  const different = async (kinds: readonly ChangeKind[]): Promise<string[]> =>
    below((await walked("", { manifest, wanted: wantedKinds({ kinds }) })).different);
  expect(await different(["created", "deleted"])).toEqual(["/b/new"]);
  expect(await different(["children"])).toEqual(["/b", "/b/new"]);
  expect(await different(["acl"])).toEqual(["/b/new", "/b/x"]);
});

test("what is excluded is not read", async () => {
  const { different } = await walked("", { isExcluded: (path) => path === `${root}/a` });
  expect(below(different)).toEqual(["", "/b", "/b/x"]);
});

test("what is below a znode that may not be read is unknown, not gone", async () => {
  await client.create(`${root}/locked`, undefined, { acl: [{ perms: 2, scheme: "world", id: "anyone" }] });
  const manifest = await knowing("/locked-not");
  const known = UNKNOWN;
  for (const path of ["/locked", "/locked/below"]) manifest.apply([[root + path, known]]);
  const { different, unreadable } = await walked("", { manifest });
  expect(below(unreadable)).toEqual(["/locked"]);
  expect(below(different)).toContain("/locked-not");
  expect(below(different)).not.toContain("/locked");
  expect(below(different)).not.toContain("/locked/below");
});

test("where the watched path does not exist, all that was known is different", async () => {
  const manifest = await knowing("/none/a");
  const { different, znodes } = await walked("/none", { manifest });
  expect(below(different)).toEqual(["/none/a"]);
  expect(znodes).toBe(0);
});

test("many znodes come in portions, and what is learnt meanwhile counts as found", async () => {
  const names = Array.from({ length: 1_200 }, (_, index) => `${root}/b/${index}`);
  await Promise.all(names.map((name) => client.create(name)));
  const manifest = await knowing("", "/a", "/a/x", "/a/y", "/b", "/b/x", "/gone");
  const paths = new SourcePaths({ paths: [root], recursive: true });
  const source = { paths, wanted: wantedKinds({}), isExcluded: () => false };
  const portions: number[] = [];
  const different: string[] = [];
  for await (const portion of walk(client, source, manifest)) {
    if (portions.length === 0) {
      const path = `${root}/meanwhile`;
      await client.create(path);
      manifest.apply([[path, UNKNOWN]]);
    }
    portions.push(portion.different.length);
    different.push(...portion.different.map(({ path }) => path));
  }
  expect(Math.max(...portions)).toBe(500);
  expect(different.sort()).toEqual([...names, `${root}/gone`].sort());
});
