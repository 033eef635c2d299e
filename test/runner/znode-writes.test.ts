import type { SinkEffect } from "../../lib/beam/api";
import type { ZnodeWritePayload } from "../../lib/io/write-to-znodes";
import {
  ForbiddenWriteError,
  isStalePlan,
  ZnodeConflictError,
  ZnodeWrites,
} from "../../lib/runner/znode-writes";
import { connect, MultiError, type Op, type ZooKeeper, type ZooKeeperClient } from "../../lib/zookeeper";
import { type LocalZooKeeper, startZooKeeper } from "../support/zookeeper-server";

let server: LocalZooKeeper;
let client: ZooKeeper;
let writes: ZnodeWrites;
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
  root = `/writes-${++tests}`;
  await client.create(root);
  await client.create(`${root}/a`, Buffer.from("old"));
  writes = newWrites();
});

function newWrites(through: ZooKeeperClient = client): ZnodeWrites {
  return new ZnodeWrites(through, {
    root: "/beamkeeper",
    isWatched: (path) => path === `${root}/watched` || path.startsWith(`${root}/watched/`),
  });
}

function effect(path: string, data: string, rest: Partial<ZnodeWritePayload> = {}): SinkEffect {
  const payload: ZnodeWritePayload = {
    path: path.startsWith("/beamkeeper") ? path : root + path,
    data: Buffer.from(data),
    mode: "upsert",
    onConflict: "fail",
    ...rest,
  };
  const pane = { index: 0, nonSpeculativeIndex: 0, timing: "ON_TIME", isFirst: true, isLast: true } as const;
  return {
    sink: "znodes",
    transform: "writeToZnodes",
    payload,
    window: { kind: "global" },
    pane,
    timestampMs: 0,
  };
}

const planned = (ops: readonly Op[]): string[] =>
  ops.map((op) => {
    const data = "data" in op && op.data?.length ? `=${Buffer.from(op.data).toString()}` : "";
    const version = "version" in op && op.version !== undefined ? `@${op.version}` : "";
    return `${op.type} ${op.path.slice(root.length)}${data}${version}`;
  });

/** Plans and sends: the plan has to be one that the server takes. */
async function write(...effects: SinkEffect[]): Promise<string[]> {
  const ops = await writes.plan(effects);
  if (ops.length > 0) await client.multi(ops);
  return planned(ops);
}

const text = async (path: string): Promise<string | null> =>
  client.getData(root + path).then(
    ({ data }) => data.toString(),
    () => null,
  );

describe("upsert", () => {
  test("overwrites what exists, and creates what does not with all its parents, once", async () => {
    expect(
      await write(effect("/a", "1"), effect("/x/y/b", "2"), effect("/x/y/c", "3"), effect("/x/z", "4")),
    ).toEqual([
      ...["setData /a=1", "create /x", "create /x/y", "create /x/y/b=2", "create /x/y/c=3", "create /x/z=4"],
    ]);
    expect(await write(effect("/x/y/d", "5"))).toEqual(["create /x/y/d=5"]);
  });

  test("of a parent and its child, in either order", async () => {
    await write(effect("/p/q", "child"), effect("/p", "parent"));
    expect([await text("/p"), await text("/p/q")]).toEqual(["parent", "child"]);
    await write(effect("/r", "parent"), effect("/r/q", "child"));
    expect([await text("/r"), await text("/r/q")]).toEqual(["parent", "child"]);
  });

  test("the last of several in a row stays, for each path", async () => {
    expect(await write(effect("/a", "1"), effect("/b", "x"), effect("/a", "2"), effect("/a", "3"))).toEqual([
      "create /b=x",
      "setData /a=3",
    ]);
  });

  test("an upsert that other writes build on is not left out", async () => {
    await write(effect("/new", "1"), effect("/new", "2", { mode: "update" }));
    expect(await text("/new")).toBe("2");
    await write(effect("/first", "1"), effect("/first", "2", { mode: "create", onConflict: "skip" }));
    expect(await text("/first")).toBe("1");
  });

  test("a parent that is gone since it was last seen is planned again, and then created", async () => {
    await write(effect("/p/a", "1"));
    await write(effect("/p/c", "1", { mode: "create" }), effect("/p/c", "", { mode: "delete" }));
    await client.delete(`${root}/p/a`);
    await client.delete(`${root}/p`);
    const error = await write(effect("/p/b", "2")).catch((each: unknown) => each);
    expect(error).toBeInstanceOf(MultiError);
    expect(isStalePlan((error as MultiError).cause)).toBe(true);
    writes.forget();
    expect(await write(effect("/p/b", "2"))).toEqual(["create /p", "create /p/b=2"]);
  });

  test("what was found is overwritten without being asked for, until the commit finds it gone", async () => {
    const asked: string[] = [];
    const exists = (path: string): ReturnType<ZooKeeper["exists"]> => {
      asked.push(path.slice(root.length));
      return client.exists(path);
    };
    writes = newWrites({ exists } as ZooKeeperClient);
    expect(await write(effect("/a", "1"))).toEqual(["setData /a=1"]);
    expect(await write(effect("/a", "2"))).toEqual(["setData /a=2"]);
    expect(asked).toEqual(["/a"]);
    await write(effect("/a", "3"), effect("/a", "4", { mode: "update", version: 3 }));
    expect(asked).toEqual(["/a", "/a"]);
    await client.delete(`${root}/a`);
    const error = await write(effect("/a", "5")).catch((each: unknown) => each);
    expect(isStalePlan((error as MultiError).cause)).toBe(true);
    writes.forget();
    expect(await write(effect("/a", "6"))).toEqual(["create /a=6"]);
  });
});

describe("delete", () => {
  const remove = { mode: "delete" } as const;

  test("deletes what exists, and what does not is done", async () => {
    expect(await write(effect("/a", "", remove), effect("/none", "", remove))).toEqual(["delete /a"]);
  });

  test("and created again in one bundle, below it as well", async () => {
    expect(await write(effect("/a", "", remove), effect("/a", "new"))).toEqual([
      "delete /a",
      "create /a=new",
    ]);
    expect(await write(effect("/a", "", remove), effect("/a/below", "x"))).toEqual([
      "delete /a",
      "create /a",
      "create /a/below=x",
    ]);
    expect(await text("/a/below")).toBe("x");
  });

  test("created and deleted in one bundle", async () => {
    await write(effect("/new", "1"), effect("/new", "", remove));
    expect(await text("/new")).toBeNull();
  });
});

describe("expectations", () => {
  test.each([
    ["create of what exists", effect.bind(null, "/a", "x", { mode: "create" }), /exists already/],
    ["update of what does not exist", effect.bind(null, "/none", "x", { mode: "update" }), /does not exist/],
    [
      "another version",
      effect.bind(null, "/a", "x", { version: 7 }),
      /has version 0, and version 7 was expected/,
    ],
    [
      "a version of nothing",
      effect.bind(null, "/none", "x", { version: 0 }),
      /does not exist, and version 0 was expected/,
    ],
    [
      "deletion of another version",
      effect.bind(null, "/a", "", { mode: "delete", version: 3 }),
      /version 3 was expected/,
    ],
  ])("%s fails with path and transform, or is skipped", async (_name, make, problem) => {
    const asked = make();
    const failed = writes.plan([asked]);
    await expect(failed).rejects.toThrow(ZnodeConflictError);
    await expect(failed).rejects.toThrow(problem);
    await expect(failed).rejects.toThrow(/^writeToZnodes: \/writes-/);
    const payload = { ...(asked.payload as ZnodeWritePayload), onConflict: "skip" as const };
    expect(await writes.plan([{ ...asked, payload }])).toEqual([]);
  });

  test("version 0 is version 0, and is left to the server to check again", async () => {
    expect(await write(effect("/a", "1", { version: 0 }))).toEqual(["setData /a=1@0"]);
    await expect(write(effect("/a", "2", { version: 0 }))).rejects.toThrow(/has version 1/);
  });

  test("versions follow the writes of the same bundle", async () => {
    await write(effect("/a", "1", { version: 0 }), effect("/a", "2", { version: 1 }));
    expect(await text("/a")).toBe("2");
    await expect(write(effect("/a", "3", { version: 2 }), effect("/a", "4", { version: 2 }))).rejects.toThrow(
      /has version 3, and version 2 was expected/,
    );
  });

  test("what changes between plan and commit is seen by the next plan", async () => {
    const ops = await writes.plan([effect("/a", "mine", { version: 0 })]);
    await client.setData(`${root}/a`, Buffer.from("theirs"));
    const error = (await client.multi(ops).catch((each: unknown) => each)) as MultiError;
    expect(isStalePlan(error.cause)).toBe(true);
    await expect(writes.plan([effect("/a", "mine", { version: 0 })])).rejects.toThrow(/has version 1/);
  });
});

test.each(["/beamkeeper", "/beamkeeper/p/generation"])("a write to %s is refused", async (path) => {
  await expect(writes.plan([effect(path, "x")])).rejects.toThrow(ForbiddenWriteError);
  await expect(newWrites().plan([effect("/a", "x")])).resolves.toHaveLength(1);
});

test("a parent that would be created at a watched path is refused, an existing one is not", async () => {
  const inside = new ZnodeWrites(client, {
    root: "/beamkeeper",
    isWatched: (path) => path === `${root}/made`,
  });
  await expect(inside.plan([effect("/made/x", "x")])).rejects.toThrow(
    /writeToZnodes: .*\/made, which would be created for .*\/made\/x,.*allowFeedback: true/,
  );
  await client.create(`${root}/made`);
  await expect(inside.plan([effect("/made/x", "x")])).resolves.toHaveLength(1);
});

test("a write below a watched path is refused, with the option that allows it", async () => {
  await expect(writes.plan([effect("/watched/x", "x")])).rejects.toThrow(
    /writeToZnodes: .*\/watched\/x.*allowFeedback: true/,
  );
  await expect(writes.plan([effect("/watched-not", "x")])).resolves.toHaveLength(1);
});
