import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { CompiledPipeline, Pane, SinkEffect } from "../../lib/beam/api";
import { DirectoryFiles, type FileStore, TemporaryFileGoneError } from "../../lib/checkpoint/files";
import { PipelineLayout, type ScopeLayout } from "../../lib/checkpoint/layout";
import { type CurrentGeneration, openPipeline } from "../../lib/checkpoint/scope";
import type { TextFilePayload } from "../../lib/io/write-to-text";
import {
  checkOutputs,
  finalName,
  type PendingFiles,
  publishFiles,
  publishLeftOver,
  removeAbandoned,
  type ShardName,
  writeFiles,
} from "../../lib/runner/text-files";
import { connect, type Op, type ZooKeeper, type ZooKeeperClient } from "../../lib/zookeeper";
import { TcpProxy } from "../support/tcp-proxy";
import { type LocalZooKeeper, startZooKeeper } from "../support/zookeeper-server";

const ONLY: Pane = { index: 0, nonSpeculativeIndex: 0, timing: "ON_TIME", isFirst: true, isLast: true };
const OWNER: ShardName = { stage: "write", shard: 0 };

let server: LocalZooKeeper;
let client: ZooKeeper;
let folder: string;
let files: DirectoryFiles;
let current: CurrentGeneration;
let pipelines = 0;

beforeAll(async () => {
  server = await startZooKeeper();
  client = await connect({ connectString: server.connectString });
});

afterAll(async () => {
  await client?.close();
  await server?.stop();
});

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), "beamkeeper-text-"));
  files = new DirectoryFiles(folder);
  current = await newPipeline();
});

afterEach(() => rmSync(folder, { recursive: true, force: true }));

function newPipeline(): Promise<CurrentGeneration> {
  return openPipeline(client, new PipelineLayout("/beamkeeper", `p-${++pipelines}`), {
    fingerprint: "f",
    sources: [],
    shards: { write: 1 },
    upstream: {},
    impulses: [],
    minTimestampMs: 0,
  });
}

function payload(part: Partial<TextFilePayload> = {}): TextFilePayload {
  return { prefix: "out/part", suffix: ".txt", shard: 0, shards: 1, lines: ["one", "two"], ...part };
}

function effect(part: Partial<TextFilePayload> = {}): SinkEffect {
  const window = { kind: "global" } as const;
  return {
    sink: "text-files",
    transform: "writeToText",
    payload: payload(part),
    window,
    pane: ONLY,
    timestampMs: 0,
  };
}

const check = (of: CurrentGeneration = current): readonly Op[] => [
  {
    type: "check",
    path: of.layout.generation,
    version: of.version,
  },
];

async function written(
  number: number,
  of = current,
  owner = OWNER,
  part: Partial<TextFilePayload> = {},
): Promise<PendingFiles> {
  const id = `${number}`.padStart(16, "0");
  return writeFiles(files, of.scope, { ...owner, number, id }, [
    effect(part),
    effect({ ...part, prefix: "out/other" }),
  ]);
}

async function committed(
  number: number,
  of = current,
  owner = OWNER,
  part: Partial<TextFilePayload> = {},
): Promise<PendingFiles> {
  const pending = await written(number, of, owner, part);
  await client.multi([...check(of), ...pending.ops]);
  return pending;
}

const visible = (): string[] =>
  (readdirSync(folder, { recursive: true }) as string[]).filter((name) => /^[^.].*\.txt$/.test(name)).sort();
const entries = async (scope: ScopeLayout = current.scope): Promise<number> =>
  (await client.getChildren(scope.outputs)).children.length;

describe("final names", () => {
  test.each([
    ["global", { kind: "global" }, ONLY, "out/part-00000-of-00001.txt"],
    [
      "a window, before 1970 too",
      { kind: "interval", startMs: -1_000, endMs: 500 },
      ONLY,
      "out/part-1969-12-31T23:59:59.000Z-1970-01-01T00:00:00.500Z-00000-of-00001.txt",
    ],
    [
      "an early pane",
      { kind: "global" },
      { ...ONLY, timing: "EARLY", isLast: false },
      "out/part-pane-0-00000-of-00001.txt",
    ],
    [
      "a late pane",
      { kind: "global" },
      { ...ONLY, index: 2, timing: "LATE", isFirst: false },
      "out/part-pane-2-late-last-00000-of-00001.txt",
    ],
  ] as const)("%s", (_name, window, pane, name) => {
    expect(finalName(payload(), window, pane)).toBe(name);
  });

  test("shards of shards", () => {
    expect(finalName(payload({ shard: 3, shards: 8 }), { kind: "global" }, ONLY)).toBe(
      "out/part-00003-of-00008.txt",
    );
  });
});

test("nothing is visible before the commit; then the files are, and their entries are gone", async () => {
  const pending = await written(1);
  expect(visible()).toEqual([]);
  await client.multi([...check(), ...pending.ops]);
  expect(visible()).toEqual([]);
  await publishFiles(client, files, current.scope, check(), pending.entries);
  expect(visible()).toEqual(["out/other-00000-of-00001.txt", "out/part-00000-of-00001.txt"]);
  expect(readFileSync(join(folder, "out/part-00000-of-00001.txt"), "utf8")).toBe("one\ntwo\n");
  expect(await entries()).toBe(0);
});

test("a name that the store does not take is refused before anything is written", async () => {
  const bad = writeFiles(files, current.scope, { ...OWNER, number: 1, id: "x" }, [
    effect(),
    effect({ prefix: "../out" }),
  ]);
  await expect(bad).rejects.toThrow(/"\.\.\/out.*relative to the output folder/);
  expect(await files.listTemporary("")).toEqual([]);
});

/** The store and the client, dying at the n-th thing that they do. */
function mortal(steps: number): { files: FileStore; client: ZooKeeperClient } {
  let left = steps;
  const dying = <T extends object>(target: T, fatal: readonly string[]): T =>
    new Proxy(target, {
      get(of, name) {
        const value: unknown = Reflect.get(of, name, of);
        if (typeof value !== "function") return value;
        return (...args: unknown[]) => {
          if (fatal.includes(String(name)) && left-- <= 0) throw new RangeError("died");
          return value.apply(of, args);
        };
      },
    });
  return {
    files: dying<FileStore>(files, ["publish", "removeTemporary"]),
    client: dying<ZooKeeperClient>(client, ["multi"]),
  };
}

test("a process that dies between any two steps leaves work, and the next one ends it", async () => {
  for (let steps = 0; steps <= 3; steps += 1) {
    const pending = await committed(steps + 1, current, OWNER, { suffix: `-${steps}.txt` });
    const died = mortal(steps);
    await publishFiles(died.client, died.files, current.scope, check(), pending.entries).catch(
      () => undefined,
    );
    await publishLeftOver(client, files, current.scope, check(), OWNER);
    await removeAbandoned(files, current.scope, OWNER, steps + 1);
    expect(visible()).toHaveLength(2 * (steps + 1));
    expect(await entries()).toBe(0);
    expect(await files.listTemporary("")).toEqual([]);
  }
});

test("two that publish at once, and one that comes later, do no harm", async () => {
  const pending = await committed(1);
  const publish = () => publishFiles(client, files, current.scope, check(), pending.entries);
  await Promise.all([publish(), publish(), publishLeftOver(client, files, current.scope, check(), OWNER)]);
  await publish();
  expect(visible()).toHaveLength(2);
  expect(await entries()).toBe(0);
});

test("an entry that another removed does not keep the others", async () => {
  const pending = await committed(1);
  await client.delete(`${current.scope.outputs}/${pending.entries[0]!.name}`);
  await publishFiles(client, files, current.scope, check(), pending.entries);
  expect(await entries()).toBe(0);
});

test("the entries go even if the reply is lost", async () => {
  const proxy = await TcpProxy.start(server.connectString);
  const shaky = await connect({ connectString: proxy.address });
  try {
    const pending = await committed(1);
    proxy.dropReplies();
    const published = publishFiles(shaky, files, current.scope, check(), pending.entries);
    while ((await entries()) > 0) await client.sync("/");
    proxy.cut();
    await published;
    expect(visible()).toHaveLength(2);
  } finally {
    await shaky.close();
    await proxy.stop();
  }
});

test("a generation that moved on keeps the entries for the next invocation", async () => {
  const pending = await committed(1);
  const stale: Op[] = [{ type: "check", path: current.layout.generation, version: current.version + 1 }];
  await publishFiles(client, files, current.scope, stale, pending.entries);
  expect(visible()).toHaveLength(2);
  expect(await entries()).toBe(2);
  await publishLeftOver(client, files, current.scope, check(), OWNER);
  expect(await entries()).toBe(0);
});

describe("abandoned files", () => {
  test("go once their number has passed, and not before", async () => {
    await written(5);
    await removeAbandoned(files, current.scope, OWNER, 4);
    expect(await files.listTemporary("")).toHaveLength(2);
    await removeAbandoned(files, current.scope, OWNER, 5);
    expect(await files.listTemporary("")).toEqual([]);
  });

  test("are never those of another shard, stage, pipeline or root in the same folder", async () => {
    const other = await newPipeline();
    const owners: [CurrentGeneration, ShardName][] = [
      [current, { stage: "write", shard: 1 }],
      [current, { stage: "write", shard: 10 }],
      [current, { stage: "write.0", shard: 0 }],
      [current, { stage: "other", shard: 0 }],
      [other, OWNER],
    ];
    for (const [of, owner] of owners) await written(1, of, owner);
    await publishLeftOver(client, files, current.scope, check(), OWNER);
    await removeAbandoned(files, current.scope, OWNER, 100);
    expect(await files.listTemporary("")).toHaveLength(2 * owners.length);
  });

  test("have names that a file system takes, however long the stage's is", async () => {
    const pending = await committed(1, current, { stage: "ü".repeat(300), shard: 0 });
    for (const { name } of pending.entries) expect(name.length).toBeLessThan(100);
  });
});

test.each([
  ["out/part", undefined],
  [
    "s3://bucket/part",
    /pipeline "p", write: .*takes no URLs. Use a relative prefix, or set BEAMKEEPER_OUTPUT/,
  ],
  ["../part", /pipeline "p", write: .*stay below it/],
])("a pipeline that writes to %s is taken or refused before it runs", (prefix, refusal) => {
  const sinks = [{ sink: "text-files", transform: "write", config: { prefix } }];
  const checking = () => checkOutputs({ name: "p", sinks } as unknown as CompiledPipeline, files);
  if (refusal) expect(checking).toThrow(refusal);
  else checking();
});

describe("a store that keeps temporary files until they are removed, as S3 does", () => {
  /** Publishing copies; a temporary file that is gone is not known to have been published. */
  class CopyingFiles implements FileStore {
    readonly temporary = new Map<string, Uint8Array>();
    readonly final = new Map<string, Uint8Array>();

    checkName(): void {}
    async writeTemporary(name: string, data: Uint8Array): Promise<void> {
      this.temporary.set(name, data);
    }
    async publish(temporary: string, final: string): Promise<void> {
      const data = this.temporary.get(temporary);
      if (!data) throw new TemporaryFileGoneError(`${temporary} is gone`);
      this.final.set(final, data);
    }
    async listTemporary(prefix: string): Promise<string[]> {
      return [...this.temporary.keys()].filter((name) => name.startsWith(prefix));
    }
    async removeTemporary(name: string): Promise<void> {
      this.temporary.delete(name);
    }
  }

  async function committed(copying: CopyingFiles) {
    const commit = { ...OWNER, number: 1, id: "c1" };
    const pending = await writeFiles(copying, current.scope, commit, [effect()]);
    await client.multi([...check(), ...pending.ops]);
    return pending;
  }

  test("the temporary file goes after the entry", async () => {
    const copying = new CopyingFiles();
    const { entries } = await committed(copying);
    const removed: boolean[] = [];
    copying.removeTemporary = async (name) => {
      removed.push((await client.getChildren(current.scope.outputs)).children.length === 0);
      copying.temporary.delete(name);
    };
    await publishFiles(client, copying, current.scope, check(), entries);
    expect([...copying.final.keys()]).toEqual(["out/part-00000-of-00001.txt"]);
    expect([removed, copying.temporary.size]).toEqual([[true], 0]);
  });

  test("a generation that moved on leaves the temporary file to the next invocation", async () => {
    const copying = new CopyingFiles();
    const { entries } = await committed(copying);
    const stale = check();
    const { data } = await client.getData(current.layout.generation);
    await client.setData(current.layout.generation, data);
    await publishFiles(client, copying, current.scope, stale, entries);
    expect(copying.temporary.size).toBe(1);
  });

  test("what another invocation has published and removed is done; what is gone with its entry there is an error", async () => {
    const copying = new CopyingFiles();
    const { entries } = await committed(copying);
    copying.temporary.clear();
    await expect(publishFiles(client, copying, current.scope, check(), entries)).rejects.toThrow("is gone");
    await client.delete(`${current.scope.outputs}/${entries[0]!.name}`);
    await publishFiles(client, copying, current.scope, check(), entries);
  });
});
