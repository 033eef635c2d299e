import { reading } from "../checkpoint/commit";
import {
  bucketHas,
  compaction,
  decodeBucket,
  decodeRun,
  encodeBucket,
  encodeRun,
  ID_BYTES,
  type IdBucket,
  runHas,
} from "../checkpoint/event-ids";
import type { SourceLayout } from "../checkpoint/layout";
import { NoNodeError, type Op, type ZooKeeperClient } from "../zookeeper";

/** A bucket as it was read. */
export interface ReadBucket {
  readonly number: number;
  readonly version: number;
  readonly bucket: IdBucket;
  /** The contents of its runs, by number. */
  readonly runs: ReadonlyMap<number, Buffer>;
}

/** Whether an id of the bucket was taken. */
export function wasTaken({ bucket, runs }: ReadBucket, id: Buffer): boolean {
  if (bucketHas(bucket, id)) return true;
  for (const run of runs.values()) if (runHas(run, id)) return true;
  return false;
}

/** What a source has taken, as it is in ZooKeeper. Runs never change, so those that were read once are kept in memory. */
export class StoredIds {
  private readonly known = new Map<number, ReadonlyMap<number, Buffer>>();

  constructor(
    private readonly client: ZooKeeperClient,
    readonly layout: SourceLayout,
  ) {}

  /** Rejects with NoNodeError where the source is gone, EncodingError, or the client's error. */
  async read(numbers: readonly number[]): Promise<ReadBucket[]> {
    return Promise.all(numbers.map((number) => this.readBucket(number)));
  }

  /**
   * Brings a bucket's recent ids into a run and removes what need not be remembered any more, where that is due. One
   * multi: the check, the bucket with its version, the new run, the old ones deleted. Where another one was faster or
   * the reply is lost, whoever takes records next looks again. Rejects with the client's error.
   */
  async compact(number: number, check: Op, nowMs: number, rememberMs: number): Promise<void> {
    const read = await this.readBucket(number);
    const due = compaction(read.bucket, nowMs, rememberMs);
    if (!due) return;
    const { bucket, run, merged, removed } = due;
    const ops: Op[] = [
      check,
      {
        type: "setData",
        path: this.layout.idBucket(number),
        data: encodeBucket(bucket),
        version: read.version,
      },
      ...removed.map((old): Op => ({ type: "delete", path: this.layout.idRun(number, old.number) })),
    ];
    if (run) {
      const ids = read.bucket.recent.map(({ id }) => id);
      const data = encodeRun(merged ? [...ids, ...split(read.runs.get(merged.number)!)] : ids);
      ops.push({ type: "create", path: this.layout.idRun(number, run.number), data });
    }
    await this.client.multi(ops);
  }

  private async readBucket(number: number): Promise<ReadBucket> {
    const path = this.layout.idBucket(number);
    for (;;) {
      const { data, stat } = await reading(this.client, () => this.client.getData(path));
      const bucket = decodeBucket(data, path);
      const runs = await this.readRuns(number, bucket);
      if (runs) return { number, version: stat.version, bucket, runs };
    }
  }

  /** Undefined where a run is gone, since the bucket was compacted meanwhile. */
  private async readRuns(number: number, bucket: IdBucket): Promise<ReadonlyMap<number, Buffer> | undefined> {
    const known = this.known.get(number);
    const read = bucket.runs.map(
      async (run) =>
        [run.number, known?.get(run.number) ?? (await this.readRun(number, run.number))] as const,
    );
    try {
      const runs = new Map(await Promise.all(read));
      this.known.set(number, runs);
      return runs;
    } catch (error) {
      if (error instanceof NoNodeError) return undefined;
      throw error;
    }
  }

  private async readRun(bucket: number, run: number): Promise<Buffer> {
    const path = this.layout.idRun(bucket, run);
    return decodeRun((await reading(this.client, () => this.client.getData(path))).data, path);
  }
}

function split(run: Buffer): Buffer[] {
  return Array.from({ length: run.length / ID_BYTES }, (_, index) =>
    run.subarray(index * ID_BYTES, (index + 1) * ID_BYTES),
  );
}
