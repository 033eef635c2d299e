import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { definePipeline, type PipelineOptions, type ZnodeChange } from "beamkeeper";
import { compilePipeline } from "../../lib/beam/pipeline";
import { DirectoryBlobs } from "../../lib/checkpoint/blobs";
import { listDeadLetters, type StoredLetter } from "../../lib/checkpoint/dead-letter";
import { DirectoryFiles } from "../../lib/checkpoint/files";
import type { ShardReply } from "../../lib/checkpoint/invocation";
import { PipelineLayout, type ShardLayout, segmentPrefix } from "../../lib/checkpoint/layout";
import { decodeHead, encodeCursor, type Head, NEW_CURSOR } from "../../lib/checkpoint/records";
import { type CurrentGeneration, openPipeline } from "../../lib/checkpoint/scope";
import { encodeSegment } from "../../lib/checkpoint/segment";
import { encodeZnodeChange } from "../../lib/checkpoint/znode-change";
import { type Clock, systemClock } from "../../lib/clock";
import { type Log, silent } from "../../lib/log";
import type { BundleLimits } from "../../lib/runner/bundle";
import { planPipeline } from "../../lib/runner/deployment";
import { ShardRunner } from "../../lib/runner/shard-runner";
import { connect, type ZooKeeper, type ZooKeeperClient } from "../../lib/zookeeper";
import { type LocalZooKeeper, startZooKeeper } from "./zookeeper-server";

const LIMITS: BundleLimits = { maxUnits: 100, commitSizeBytes: 128 * 1024, segmentSizeBytes: 32 * 1024 };
const ROOT = "/beamkeeper";

/** One pipeline's shards on a real server, each invoked by hand. Time is `nowMs` and moves when the test moves it. */
export class ShardLab {
  nowMs = 1_000_000;
  /** The event time of what is appended. */
  eventMs = 500;
  readonly blobs: DirectoryBlobs;
  private elements = 0;

  private constructor(
    readonly client: ZooKeeperClient,
    readonly layout: PipelineLayout,
    readonly current: CurrentGeneration,
    private definition: PipelineOptions,
    readonly folder: string,
  ) {
    this.blobs = new DirectoryBlobs(join(folder, ".blobs"));
  }

  static async open(client: ZooKeeperClient, definition: PipelineOptions): Promise<ShardLab> {
    const layout = new PipelineLayout(ROOT, definition.name);
    const { plan } = planPipeline(compilePipeline(definePipeline(definition)));
    const current = await openPipeline(client, layout, plan);
    return new ShardLab(client, layout, current, definition, mkdtempSync(join(tmpdir(), "beamkeeper-lab-")));
  }

  close(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }

  /** What runs from now on: other code of the same pipeline. */
  redeploy(definition: Partial<PipelineOptions>): void {
    this.definition = { ...this.definition, ...definition };
  }

  newRunner(limits: Partial<BundleLimits> = {}, client = this.client, log: Log = silent): ShardRunner {
    const clock: Clock = { ...systemClock, now: () => this.nowMs };
    const pipeline = compilePipeline(definePipeline(this.definition));
    return new ShardRunner({
      ...{ client, root: ROOT, clock, log },
      pipelines: new Map([[pipeline.name, pipeline]]),
      files: new DirectoryFiles(this.folder),
      blobs: this.blobs,
      limits: { ...LIMITS, ...limits },
    });
  }

  stage(index: number): string {
    return Object.keys(this.current.generation.shards)[index]!;
  }

  shard(index = 0): ShardLayout {
    return this.current.scope.shard(this.stage(index), 0);
  }

  invoke(index = 0, runner = this.newRunner()): Promise<ShardReply> {
    const request = { pipeline: this.layout.pipeline, stage: this.stage(index), shard: 0, zxid: "0" };
    return runner.run(request, Number.POSITIVE_INFINITY);
  }

  /** Invokes until the shard is idle; what it rejects with on the way, an hour apart at most `maxFailures` times. */
  async drain(index = 0, runner = this.newRunner(), maxFailures = 20): Promise<Error[]> {
    const failures: Error[] = [];
    for (;;) {
      try {
        if ((await this.invoke(index, runner)).outcome === "idle") return failures;
      } catch (error) {
        failures.push(error as Error);
        if (failures.length >= maxFailures) return failures;
      }
    }
  }

  /** One segment of values in the first stage's inbox, as the relay appends it. */
  async append(...values: readonly (string | Uint8Array)[]): Promise<void> {
    const elements = values.map((value) => {
      const data = Buffer.from(value);
      const times = { ctimeMs: 500, mtimeMs: 500, missed: 0, missedAtLeast: false };
      const change: ZnodeChange = {
        ...{ path: `/watched/${++this.elements}`, kind: "created", data, text: data.toString() },
        ...{ version: 0, czxid: 1n, mzxid: BigInt(this.elements), zxid: 1n, ...times },
        ...{ cversion: 0, aversion: 0, numChildren: 0, isEphemeral: false },
      };
      return encodeZnodeChange(change, this.eventMs);
    });
    await this.appendBytes(encodeSegment(elements).data);
  }

  async appendBytes(data: Buffer, index = 0): Promise<void> {
    const path = segmentPrefix(this.shard(index).inbox, this.eventMs);
    await this.client.create(path, data, { mode: "persistent-sequential" });
  }

  async publish(watermarkMs: number): Promise<void> {
    const [source] = (await this.client.getChildren(this.current.scope.sources)).children;
    const { cursor } = this.current.scope.source(decodeURIComponent(source!));
    await this.client.setData(cursor, encodeCursor({ ...NEW_CURSOR, watermarkMs }));
  }

  async head(index = 0): Promise<Head> {
    const { head } = this.shard(index);
    return decodeHead((await this.client.getData(head)).data, head);
  }

  async backlog(index = 0): Promise<number> {
    return (await this.client.getChildren(this.shard(index).inbox)).children.length;
  }

  letters(): Promise<StoredLetter[]> {
    return listDeadLetters(this.client, this.layout);
  }

  /** The published lines of text, sorted. */
  lines(): string[] {
    const names = readdirSync(this.folder).filter((name) => !name.startsWith("."));
    return names
      .flatMap((name) => readFileSync(join(this.folder, name), "utf8").split("\n").filter(Boolean))
      .sort();
  }

  /** Names and the transactions that made them, in the order of these. */
  async created(path: string): Promise<{ name: string; czxid: bigint }[]> {
    const { children } = await this.client.getChildren(path).catch(() => ({ children: [] as string[] }));
    const stats = await Promise.all(children.map((name) => this.client.exists(`${path}/${name}`)));
    const all = children.map((name, index) => ({ name, czxid: stats[index]!.czxid }));
    return all.sort((a, b) => Number(a.czxid - b.czxid) || (a.name < b.name ? -1 : 1));
  }
}

/** What a test of a lab stands on. */
export interface LabTest {
  readonly client: ZooKeeper;
  /** For clients of the test's own. */
  readonly connectString: string;
  /** A znode for the results of this test alone. */
  readonly results: string;
  /** Of this test in its file, from 1. */
  readonly number: number;
}

/** Registers the steps before and after: one server for a file, and for each test a znode, which `begin` hears of. */
export function useLabServer(begin: (test: LabTest) => void): void {
  let server: LocalZooKeeper | undefined;
  let client: ZooKeeper | undefined;
  let number = 0;
  beforeAll(async () => {
    server = await startZooKeeper();
    client = await connect({ connectString: server.connectString });
  });
  afterAll(async () => {
    await client?.close();
    await server?.stop();
  });
  beforeEach(async () => {
    const results = `/results-${++number}`;
    await client!.create(results);
    begin({ client: client!, connectString: server!.connectString, results, number });
  });
}
