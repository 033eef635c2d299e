import { type BatchResponse, ingest } from "../ingest/ingestion";
import { EventIntake } from "../ingest/intake";
import { silent } from "../log";
import { planPipeline } from "../runner/deployment";
import { QUEUE, type RecordValue, SERVICES, type Service, STREAM } from "./events";
import { struck } from "./functions";
import type { SimulatedProcess } from "./process";
import type { World } from "./world";

/** What a service was given, and what it was told is done with. */
export interface Sent {
  readonly service: Service;
  readonly count: number;
  readonly done: ReadonlySet<number>;
}

/** A record with where and when its service got it. */
interface ServiceRecord extends RecordValue {
  readonly arrivalMs: number;
}

/** An execution environment of the events function. */
interface Environment {
  readonly process: SimulatedProcess;
  readonly run: (event: unknown) => Promise<BatchResponse>;
  readonly deployed: World["deployed"];
  event: unknown;
}

/** What ends an invocation in the ordinary course of faults; anything else is a defect. */
const ORDINARY_ENDS = new Set([
  "ConnectionLossError",
  "SessionExpiredError",
  "CommitLostError",
  "ReadLostError",
  "RecordsRefusedError",
  "SourceError",
]);
const KEYS = 9;
const STREAM_SHARDS = 2;
const QUEUE_AT_ONCE = 3;
const ARN = "arn:aws";

/**
 * A queue and a stream that give their records to the events function, as SQS and Kinesis do: again where an invocation
 * failed, was killed or took too long, and now and then where it did not.
 */
export class Services {
  private readonly queue: ServiceRecord[] = [];
  private readonly stream: ServiceRecord[][] = Array.from({ length: STREAM_SHARDS }, () => []);
  private readonly counts: Record<Service, number> = { sqs: 0, kinesis: 0 };
  private readonly done: Record<Service, Set<number>> = { sqs: new Set(), kinesis: new Set() };
  private warm: Environment[] = [];
  private readonly byProcess = new Map<SimulatedProcess, Environment>();

  constructor(private readonly world: World) {}

  get sent(): readonly Sent[] {
    return SERVICES.map((service) => ({ service, count: this.counts[service], done: this.done[service] }));
  }

  /** Gives the services records until the run comes to its end. */
  async feed(): Promise<void> {
    const { time } = this.world;
    const isOver = (): boolean => this.world.isEnding;
    const pauseMs = time.between(20, 300);
    for (let left = time.between(50, 150); left > 0 && !isOver(); ) {
      for (let burst = time.between(1, 8); burst > 0; burst--, left--) this.send();
      await time.sleep(time.random() * 2 * pauseMs);
    }
  }

  /** Passes records on until the run ends. */
  serve(): void {
    void this.serveQueue();
    for (const records of this.stream) void this.serveStream(records);
  }

  /** All that was sent is done with. */
  async settled(): Promise<void> {
    while (this.sent.some(({ count, done }) => done.size < count)) await this.world.time.sleep(100);
  }

  /** The same invocation once more, at the same time, in another environment. */
  duplicate(process: SimulatedProcess): boolean {
    const environment = this.byProcess.get(process);
    if (environment?.event) this.invoke(environment.event).catch(() => undefined);
    return environment !== undefined;
  }

  private send(): void {
    const { time } = this.world;
    const service = time.chance(0.5) ? "sqs" : "kinesis";
    const key = time.between(1, KEYS);
    const number = this.counts[service]++;
    const padding = time.chance(0.2) ? "x".repeat(time.between(100, 3_000)) : "";
    const record = { key: `key${key}`, number, padding, arrivalMs: time.now() };
    if (service === "sqs") this.queue.push(record);
    else this.stream[key % STREAM_SHARDS]!.push(record);
  }

  private async serveQueue(): Promise<void> {
    const { world } = this;
    const { time } = world;
    let atOnce = 0;
    while (!world.hasEnded) {
      await time.sleep(time.between(5, 60));
      if (atOnce >= QUEUE_AT_ONCE || this.queue.length === 0) continue;
      // In no order.
      const batch = Array.from(
        { length: Math.min(this.queue.length, time.between(1, 10)) },
        () => this.queue.splice(time.between(0, this.queue.length - 1), 1)[0]!,
      );
      atOnce += 1;
      void this.deliverMessages(batch).finally(() => {
        atOnce -= 1;
      });
    }
  }

  private async deliverMessages(batch: readonly ServiceRecord[]): Promise<void> {
    const { time } = this.world;
    const failed = await this.failures({ Records: batch.map(message) });
    for (const record of batch) {
      const isDone = failed !== "all" && !failed.has(messageId(record));
      if (isDone) this.done.sqs.add(record.number);
      // Visible again after its time, or since the queue gives some messages twice.
      if (!isDone || time.chance(0.1))
        time.after(time.between(50, 2_000), () => void this.queue.push(record));
    }
  }

  private async serveStream(records: readonly ServiceRecord[]): Promise<void> {
    const { world, done } = this;
    const { time } = world;
    const shard = `shardId-${this.stream.indexOf(records as ServiceRecord[])}`;
    for (let next = 0; !world.hasEnded; ) {
      await time.sleep(time.between(10, 200));
      if (next >= records.length) continue;
      const batch = records.slice(next, next + time.between(1, 20));
      const failed = await this.failures({ Records: batch.map((record) => streamed(record, shard)) });
      const first = batch.findIndex((record) => failed === "all" || failed.has(sequence(record)));
      const taken = first < 0 ? batch.length : first;
      for (const { number } of batch.slice(0, taken)) done.kinesis.add(number);
      next += taken;
      // Whoever reads it has lost its place, and begins somewhat before it.
      if (time.chance(0.05)) next = Math.max(0, next - time.between(1, 20));
    }
  }

  /** The items that are to come again. */
  private async failures(event: unknown): Promise<ReadonlySet<string> | "all"> {
    try {
      const { batchItemFailures } = await this.invoke(event);
      return new Set(batchItemFailures.map(({ itemIdentifier }) => itemIdentifier));
    } catch {
      return "all";
    }
  }

  /** One invocation; rejects where it fails, where its process is killed, and where it takes too long. */
  private async invoke(event: unknown): Promise<BatchResponse> {
    const { time } = this.world;
    const environment = this.warmOne() ?? this.newEnvironment();
    const { process } = environment;
    environment.event = event;
    let forget = (): void => undefined;
    const cut = new Promise<never>((_, reject) => {
      const fail = (): void => reject(new Error("the function was killed, or took too long"));
      forget = time.after(time.between(1_000, 8_000), fail);
      process.client.onDeath = () => void time.after(time.between(1, 200), fail);
    });
    try {
      const response = await Promise.race([environment.run(event), cut]);
      if (!process.dead) this.warm.push(environment);
      return response;
    } finally {
      environment.event = undefined;
      forget();
    }
  }

  private warmOne(): Environment | undefined {
    const { time, deployed } = this.world;
    this.warm = this.warm.filter((each) => each.deployed === deployed && !each.process.dead);
    return this.warm.length > 0 && time.chance(0.8) ? this.warm.pop() : undefined;
  }

  private newEnvironment(): Environment {
    const { world } = this;
    const { time, deployed, layout } = world;
    const process = world.newProcess("intake");
    const { plan, eventSources } = planPipeline(deployed);
    const intake = new EventIntake({
      client: process.client,
      ...{ layout, plan },
      blobs: {
        put: (name, data) =>
          struck(world, process, "intake: write a blob", () => world.blobs.put(name, data)),
        get: (name) => world.blobs.get(name),
        delete: (name) => world.blobs.delete(name),
        list: (prefix) => world.blobs.list(prefix),
      },
      clock: process,
      log: silent,
      limits: {
        commitSizeBytes: 512 * 1024,
        segmentSizeBytes: time.chance(0.2) ? 64 : 2_048,
        maxBacklog: time.between(2, 40),
        roomWaitMs: time.between(0, 2_000),
      },
    });
    const options = {
      sources: eventSources.map((planned) => ({ pipeline: deployed.name, planned, intake })),
      ...{ stage: "dev", wake: async () => undefined, clock: process, log: silent },
    };
    const run = async (event: unknown): Promise<BatchResponse> => {
      try {
        return (await ingest(options, event)) as BatchResponse;
      } catch (error) {
        const { name, message } = error as Error;
        // Code of before, or of what is to come.
        const isAnother = world.changed !== undefined && name === "PipelineMismatchError";
        if (!isAnother && !ORDINARY_ENDS.has(name))
          world.problems.push(`the events function failed: ${name}: ${message}`);
        throw error;
      }
    };
    const environment = { process, run, deployed, event: undefined };
    this.byProcess.set(process, environment);
    return environment;
  }
}

function messageId({ number }: ServiceRecord): string {
  return `message-${number}`;
}

/** Sequence numbers grow, and not by one. */
function sequence({ number }: ServiceRecord): string {
  return String((BigInt(number) + 1n) * 1_000_003n);
}

function body({ key, number, padding }: ServiceRecord): string {
  return JSON.stringify({ key, number, padding } satisfies RecordValue);
}

function message(record: ServiceRecord): unknown {
  return {
    messageId: messageId(record),
    body: body(record),
    attributes: { SentTimestamp: String(Math.floor(record.arrivalMs)) },
    eventSource: "aws:sqs",
    eventSourceARN: `${ARN}:sqs:here:1:${QUEUE}`,
  };
}

function streamed(record: ServiceRecord, shard: string): unknown {
  return {
    eventID: `${shard}:${sequence(record)}`,
    eventSource: "aws:kinesis",
    eventSourceARN: `${ARN}:kinesis:here:1:stream/${STREAM}`,
    kinesis: {
      partitionKey: record.key,
      sequenceNumber: sequence(record),
      data: Buffer.from(body(record)).toString("base64"),
      approximateArrivalTimestamp: record.arrivalMs / 1_000,
    },
  };
}
