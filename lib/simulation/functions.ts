import type { CompiledPipeline } from "../beam/api";
import type { BlobStore } from "../checkpoint/blobs";
import type { FileStore } from "../checkpoint/files";
import type { ShardReply, ShardRequest } from "../checkpoint/invocation";
import { GIVEN_UP } from "../runner/shard-loop";
import { ShardRunner } from "../runner/shard-runner";
import type { SimulatedProcess } from "./process";
import type { Part, Step } from "./steps";
import { ROOT, type World } from "./world";

/** An execution environment of the bundle function: a process, and what it keeps between invocations. */
interface Environment {
  readonly process: SimulatedProcess;
  readonly runner: ShardRunner;
  readonly pipeline: CompiledPipeline;
  request: ShardRequest | undefined;
  /** The shard that it was called for last. */
  last: string;
}

/** Lambda's Invoke: some environment runs it, sometimes two do; a killed one is an error after a while. */
export class Functions {
  private warm: Environment[] = [];
  private readonly byProcess = new Map<SimulatedProcess, Environment>();

  constructor(private readonly world: World) {}

  async invoke(request: ShardRequest): Promise<ShardReply> {
    const { time } = this.world;
    await time.sleep(time.random() * 5);
    const reply = await this.once(request);
    await time.sleep(time.random() * 5);
    return JSON.parse(JSON.stringify(reply)) as ShardReply;
  }

  /** The same invocation once more, at the same time, in another environment. */
  duplicate(process: SimulatedProcess): boolean {
    const request = this.byProcess.get(process)?.request;
    if (request) void this.once(request).catch(() => undefined);
    return request !== undefined;
  }

  private async once(request: ShardRequest): Promise<ShardReply> {
    const { time } = this.world;
    const environment = this.warmOne(request) ?? this.newEnvironment();
    const { process, runner } = environment;
    environment.request = request;
    environment.last = placeOf(request);
    const died = new Promise<never>((_, reject) => {
      process.client.onDeath = () => {
        this.byProcess.delete(process);
        time.after(time.between(1, 200), () => reject(new Error("the function was killed")));
      };
    });
    died.catch(() => undefined);
    try {
      return await Promise.race([runner.run(request, process.now() + time.between(20, 2_000)), died]);
    } finally {
      environment.request = undefined;
      if (!process.dead) this.warm.push(environment);
    }
  }

  /** An environment that is free: any, or one that may still have the shard's state. */
  private warmOne(request: ShardRequest): Environment | undefined {
    const { time, deployed } = this.world;
    this.warm = this.warm.filter(({ pipeline }) => pipeline === deployed);
    if (this.warm.length === 0 || !time.chance(0.8)) return undefined;
    const same = time.chance(0.7) ? this.warm.findIndex(({ last }) => last === placeOf(request)) : -1;
    return this.warm.splice(same >= 0 ? same : time.between(0, this.warm.length - 1), 1)[0];
  }

  private newEnvironment(): Environment {
    const { world } = this;
    const pipeline = world.deployed;
    const process = world.newProcess("bundle");
    const runner = new ShardRunner({
      client: world.clientOf(process),
      root: ROOT,
      pipelines: new Map([[pipeline.name, pipeline]]),
      files: new StruckFiles(world, process, world.files),
      blobs: struckBlobs(world, process, "bundle"),
      clock: process,
      log: (_level, message) => {
        if (message === GIVEN_UP) world.tally.givenUp += 1;
      },
      limits: {
        maxUnits: world.time.chance(0.2) ? world.time.between(1, 10) : world.time.between(10, 100),
        commitSizeBytes: 512 * 1024,
        segmentSizeBytes: 2_048,
      },
    });
    const environment = { process, runner, pipeline, request: undefined, last: "" };
    this.byProcess.set(process, environment);
    return environment;
  }
}

function placeOf({ stage, shard }: ShardRequest): string {
  return `${stage}/${shard}`;
}

/** The file store as one process reaches it: what is written and renamed may fail, before or after it took effect. */
class StruckFiles implements FileStore {
  constructor(
    private readonly world: World,
    private readonly process: SimulatedProcess,
    private readonly files: FileStore,
  ) {}

  checkName(final: string): void {
    this.files.checkName(final);
  }

  writeTemporary(name: string, data: Uint8Array): Promise<void> {
    return struck(this.world, this.process, "bundle: write a temporary file", () =>
      this.files.writeTemporary(name, data),
    );
  }

  publish(temporary: string, final: string): Promise<void> {
    return struck(this.world, this.process, "bundle: give a file its final name", () =>
      this.files.publish(temporary, final),
    );
  }

  listTemporary(prefix: string): Promise<string[]> {
    return this.files.listTemporary(prefix);
  }

  removeTemporary(name: string): Promise<void> {
    return this.process.dead ? new Promise(() => undefined) : this.files.removeTemporary(name);
  }
}

/** The blob store as a process of that part meets it. */
export function struckBlobs(
  world: World,
  process: SimulatedProcess,
  part: Exclude<Part, "intake">,
): BlobStore {
  const { blobs } = world;
  return {
    put: (name, data) => struck(world, process, `${part}: write a blob`, () => blobs.put(name, data)),
    get: (name) => struck(world, process, `${part}: read a blob`, () => blobs.get(name)),
    delete: (name) => struck(world, process, `${part}: delete a blob`, () => blobs.delete(name)),
    list: (prefix) => struck(world, process, `${part}: read a blob`, () => blobs.list(prefix)),
  };
}

/** What a process asks of a store may fail, before or after it took effect, or kill the process. */
export async function struck<T>(
  world: World,
  process: SimulatedProcess,
  step: Step,
  work: () => Promise<T>,
): Promise<T> {
  const fault = !process.dead && world.mayStrike() ? world.strike(process, step) : undefined;
  if (fault === "killed before") process.client.die();
  if (process.dead) return new Promise(() => undefined);
  await process.heard(world.time.sleep(world.time.random() * 3));
  if (fault === "request lost") throw new Error("the store did not answer");
  const result = await work();
  if (fault === "reply lost") throw new Error("the store did its work and did not answer");
  if (fault === "killed after") process.client.die();
  if (process.dead) return new Promise(() => undefined);
  return result;
}
