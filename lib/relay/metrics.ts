/** What a relay is doing; `ended` until it begins again. */
export type RelayState = "starting" | "standby" | "active" | "ended";

/** What one source of a relay counted since this process began. */
export interface SourceFigures {
  readonly source: string;
  /** Watch events that concern the source, of a relay that stands by as well. */
  readonly events: number;
  /** Elements appended, to each stage that reads the source once. */
  readonly elements: number;
  /** Values that could not be seen, as the elements say; a lower bound where they say "at least". */
  readonly missed: number;
  /** Events that shared a read with an earlier one of the same znode. */
  readonly coalesced: number;
  readonly commits: number;
  readonly walks: number;
  /** Znodes that the walks read. */
  readonly walkedZnodes: number;
  /** The time that walks took which came to their end, in ms. */
  readonly walkMs: number;
  /**
   * Transactions from the position up to which everything is appended to the latest change that was heard of; undefined
   * before a position is known, and where this relay is not active. After an election of the ensemble a lower bound.
   */
  readonly lagZxids: number | undefined;
  /** How far the published watermark is behind the ensemble's clock, in ms; undefined as `lagZxids` is. */
  readonly lagMs: number | undefined;
}

/** What the relay of one pipeline counted since this process began; gauges are of the moment. */
export interface RelayFigures {
  readonly pipeline: string;
  readonly state: RelayState;
  readonly invocations: number;
  /** Invocations that ended with an error instead of an answer. */
  readonly failures: number;
  readonly inFlight: number;
  readonly sources: readonly SourceFigures[];
}

/** What is counted of a commit of a source. */
interface CountedCommit {
  readonly zxid: bigint;
  /** The ensemble's time of the commit, in ms. */
  readonly mtimeMs: number;
  readonly watermarkMs: number;
  readonly elements: number;
  readonly missed: number;
  readonly coalesced: number;
}

/** Counts what the relay of one pipeline does. It outlives the relay, so that counters go on when one follows another. */
export class RelayMetrics {
  private state: RelayState = "starting";
  private invocations = 0;
  private failures = 0;
  private inFlight = 0;
  private readonly sources = new Map<string, SourceMetrics>();

  /** `now` is this machine's clock, in ms. */
  constructor(
    readonly pipeline: string,
    private readonly now: () => number,
  ) {}

  enter(state: RelayState): void {
    this.state = state;
    if (state !== "active") for (const source of this.sources.values()) source.forgetPosition();
  }

  source(id: string): SourceMetrics {
    const source = this.sources.get(id) ?? new SourceMetrics(id, this.now);
    this.sources.set(id, source);
    return source;
  }

  /** Counts an invocation until it has ended, and gives what it gives. */
  async invocation<Answer>(call: () => Promise<Answer>): Promise<Answer> {
    this.invocations += 1;
    this.inFlight += 1;
    try {
      return await call();
    } catch (error) {
      this.failures += 1;
      throw error;
    } finally {
      this.inFlight -= 1;
    }
  }

  figures(): RelayFigures {
    const { pipeline, state, invocations, failures, inFlight } = this;
    const sources = [...this.sources.values()].map((source) => source.figures());
    return { pipeline, state, invocations, failures, inFlight, sources };
  }
}

/** Counts what one source does. */
export class SourceMetrics {
  private events = 0;
  private elements = 0;
  private missed = 0;
  private coalesced = 0;
  private commits = 0;
  private walks = 0;
  private walkedZnodes = 0;
  private walkMs = 0;
  private latestZxid = 0n;
  /** Everything up to here is appended. */
  private appendedZxid: bigint | undefined;
  private last: CountedCommit | undefined;
  private skewMs = 0;

  constructor(
    private readonly id: string,
    private readonly now: () => number,
  ) {}

  /** An event of the transaction `zxid`; negative where the server does not say. */
  heard(zxid: bigint): void {
    this.events += 1;
    if (zxid > this.latestZxid) this.latestZxid = zxid;
  }

  walked(znodes: number, ms: number): void {
    this.walks += 1;
    this.walkedZnodes += znodes;
    this.walkMs += ms;
  }

  committed(commit: CountedCommit): void {
    this.commits += 1;
    this.elements += commit.elements;
    this.missed += commit.missed;
    this.coalesced += commit.coalesced;
    this.skewMs = commit.mtimeMs - this.now();
    // A commit publishes the time of the one before it when all that was heard up to that one's reply is appended.
    if (this.last && commit.watermarkMs >= this.last.mtimeMs) this.appendedZxid = this.last.zxid;
    this.last = commit;
  }

  /** Another relay moves the position on. */
  forgetPosition(): void {
    this.appendedZxid = undefined;
    this.last = undefined;
  }

  figures(): SourceFigures {
    const { id: source, events, elements, missed, coalesced, commits, walks, walkedZnodes, walkMs } = this;
    const counted = { source, events, elements, missed, coalesced, commits, walks, walkedZnodes, walkMs };
    const { appendedZxid, latestZxid, last, skewMs } = this;
    const lagZxids = appendedZxid === undefined ? undefined : transactionsBetween(appendedZxid, latestZxid);
    const behindMs = last && Math.max(0, this.now() + skewMs - last.watermarkMs);
    return { ...counted, lagZxids, lagMs: Number.isFinite(behindMs) ? behindMs : undefined };
  }
}

const COUNTER_BITS = 32n;

/** A zxid is the number of a leader's reign and a counter that begins anew with each. */
function transactionsBetween(from: bigint, to: bigint): number {
  if (to <= from) return 0;
  const isSameLeader = from >> COUNTER_BITS === to >> COUNTER_BITS;
  return Number(isSameLeader ? to - from : BigInt.asUintN(Number(COUNTER_BITS), to));
}
