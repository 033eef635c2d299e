import type { CompiledStage, TentativeBundle } from "../beam/api";
import type { InputFiles, ReadContext } from "../beam/splittable";
import type { Head } from "../checkpoint/records";
import { encodeSegment, readSegment, type Segment } from "../checkpoint/segment";
import { LocalFiles } from "../io/local-files";
import { BundleFailedError, BundleTrace, NOTHING_ASIDE } from "../runner/bundle-failure";
import { isUnboundedRead } from "../runner/deployment";
import { OpenReads } from "../runner/open-reads";
import { consumeReads } from "../runner/reading";
import { NoNodeError } from "../zookeeper";

/** What sources read from in a run in memory. */
export interface MemoryInputs {
  /** Default: the files of this machine. */
  readonly files?: InputFiles;
  readonly znodes: ReadonlyMap<string, string | Uint8Array | undefined>;
}

// A source that gives so many pieces at one moment would go on for ever: the clock stands still meanwhile.
const MAX_BUNDLES = 10_000;

/** The inboxes of splittable stages in a run in memory, read as the runner reads them. */
export class MemoryReads {
  private readonly open = new OpenReads();
  private readonly context: ReadContext;
  private readonly inboxes = new Map<string, { readonly segment: Segment; position: Head["position"] }>();
  private ids = 0;
  private bundles = 0;
  /** Restrictions without an end are to end. */
  isDraining = false;

  constructor(
    { files = new LocalFiles(), znodes }: MemoryInputs,
    private readonly now: () => number,
  ) {
    this.context = { files, znodes: znodesOf(znodes), root: "/beamkeeper" };
  }

  /** Whether the shard has something to read, in its inbox or kept until now. */
  hasWork(stage: CompiledStage, shard: string, inbox: readonly Uint8Array[], nextReadMs: number): boolean {
    const isDue = nextReadMs <= (this.isDraining ? Number.MAX_VALUE : this.now());
    const hasWork = inbox.length > 0 || this.inboxes.has(shard) || (isUnboundedRead(stage) && isDue);
    this.bundles = hasWork ? this.bundles + 1 : 0;
    if (this.bundles <= MAX_BUNDLES) return hasWork;
    const { name } = stage.splitting!.source;
    throw new Error(
      `the source "${name}" has always more to give; one without an end says resumeAfterMs where there is nothing for now`,
    );
  }

  /** Whether some of the shard's inbox was taken, and is not all done. */
  isReading(shard: string): boolean {
    return this.inboxes.has(shard);
  }

  /** One bundle of at most `limit` records; what is left of what was taken is read on by the next. The result takes note of it. */
  async fill(
    stage: CompiledStage,
    shard: string,
    taken: readonly Uint8Array[],
    bundle: TentativeBundle,
    limit: number,
  ): Promise<() => void> {
    const known = this.inboxes.get(shard);
    const segment = known?.segment ?? segmentOf(taken);
    const name = { name: "inbox", minTimestampMs: 0, sequence: 0 };
    const surroundings = {
      ...{ stage, reads: this.context, openReads: this.open, layout: { head: shard } },
      deadlineMs: Number.POSITIVE_INFINITY,
      clock: { now: this.now, uniqueId: () => `${++this.ids}` },
      current: { generation: { state: this.isDraining ? ("draining" as const) : ("running" as const) } },
    };
    const head = { position: known?.position ?? null };
    const reader = { read: async () => ({ elements: segment, blob: undefined }) };
    const trace = new BundleTrace();
    try {
      const consumed = await consumeReads(
        surroundings,
        bundle,
        trace,
        head,
        [name],
        reader,
        limit,
        NOTHING_ASIDE,
      );
      return () => {
        if (consumed!.position === null) this.inboxes.delete(shard);
        else this.inboxes.set(shard, { segment, position: consumed!.position });
      };
    } catch (error) {
      throw error instanceof BundleFailedError ? error.cause : error;
    }
  }
}

function segmentOf(elements: readonly Uint8Array[]): Segment {
  const { data } = encodeSegment(elements.map((bytes) => ({ bytes, timestampMs: 0 })));
  return readSegment(data, "an inbox in memory");
}

/** Znodes that never change by themselves, with what sources may ask of them. */
function znodesOf(znodes: MemoryInputs["znodes"]): ReadContext["znodes"] {
  return {
    getChildren: async (path) => {
      const prefix = path === "/" ? "/" : `${path}/`;
      const below = [...znodes.keys()].filter((each) => each.startsWith(prefix) && each !== path);
      return { children: [...new Set(below.map((each) => each.slice(prefix.length).split("/", 1)[0]!))] };
    },
    getData: async (path) => {
      const value = znodes.get(path);
      if (value === undefined) throw new NoNodeError(`there is no znode ${path} in this test`, "terminal");
      const zxids = { czxid: 1n, mzxid: 1n, ephemeralOwner: 0n };
      return {
        data: Buffer.from(value as string),
        stat: { ...zxids, ctime: 0, mtime: 0, version: 0, numChildren: 0 },
      };
    },
  };
}
