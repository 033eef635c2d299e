import { SourcePaths } from "../../lib/checkpoint/znode-source";
import { snapshotPaths } from "../../lib/relay/snapshot-paths";
import { connect, type ZooKeeper } from "../../lib/zookeeper";
import { type LocalZooKeeper, startZooKeeper } from "../support/zookeeper-server";

let server: LocalZooKeeper;
let client: ZooKeeper;

const TREE = ["/a", "/a/b", "/a/b/c", "/a/b-1", "/a/b-1/x", "/a/c", "/d", "/d/e", "/own", "/own/x", "/z"];
/** A znode before those below it, siblings by name, which is not the order of the whole paths. */
const ORDER = ["/a", "/a/b", "/a/b/c", "/a/b-1", "/a/b-1/x", "/a/c", "/d", "/d/e", "/z"];

beforeAll(async () => {
  server = await startZooKeeper();
  client = await connect({ connectString: server.connectString });
  for (const path of TREE) await client.create(path);
});

afterAll(async () => {
  await client?.close();
  await server?.stop();
});

async function found(
  paths: readonly string[],
  at: string,
  after?: string,
  recursive = true,
): Promise<string[]> {
  const tree = {
    paths: new SourcePaths({ paths, recursive }),
    isExcluded: (path: string) => /^\/(own|zookeeper)/.test(path),
  };
  const all: string[] = [];
  for await (const path of snapshotPaths(client, tree, at, after)) all.push(path);
  return all;
}

test("all paths of a source in one order, and from each of them on the rest of it", async () => {
  expect(await found(["/"], "/")).toEqual(["/", ...ORDER]);
  for (const [index, path] of ORDER.entries())
    expect(await found(["/"], "/", path)).toEqual(ORDER.slice(index + 1));
});

test("it goes on behind a path that is gone", async () => {
  expect(await found(["/"], "/", "/a/b/c/gone")).toEqual(ORDER.slice(3));
  expect(await found(["/"], "/", "/a/b0")).toEqual(ORDER.slice(5));
});

test("only what belongs to the source and lies at or below the path", async () => {
  expect(await found(["/d", "/a"], "/")).toEqual([
    "/a",
    "/a/b",
    "/a/b/c",
    "/a/b-1",
    "/a/b-1/x",
    "/a/c",
    "/d",
    "/d/e",
  ]);
  expect(await found(["/d", "/a"], "/", "/a/c")).toEqual(["/d", "/d/e"]);
  expect(await found(["/a"], "/a/b")).toEqual(["/a/b", "/a/b/c"]);
  expect(await found(["/*/*"], "/", undefined, false)).toEqual(["/a/b", "/a/b-1", "/a/c", "/d/e"]);
  expect(await found(["/a"], "/elsewhere")).toEqual([]);
  expect(await found(["/nowhere"], "/")).toEqual(["/nowhere"]);
});
