import type { Spool, StateChange } from "../api";
import { putLatin1 } from "../coders/byte-writer";
import { murmur3 } from "../coders/key";
import { decodeSharedPanes, encodeSharedPanes, paneCodec, timesOfPaneRow } from "../coders/pane-state-coder";
import {
  cellCodec,
  decodeShared,
  encodeShared,
  keyOffset,
  type StoredRow,
  stateOf,
  timesOfCell,
} from "../coders/state-coder";
import {
  type Accumulation,
  type AggregateState,
  type Emitter,
  holdOf,
  type KeyId,
  nextTimerOf,
  TentativeAggregation,
} from "../engine/aggregation";
import { TentativePanes } from "../engine/pane-aggregation";
import type { PaneState } from "../engine/pane-cell";
import {
  holdOfPanes,
  nextProcessingTimerOfPanes,
  nextTimerOfPanes,
  type PanePlan,
} from "../engine/pane-plan";
import type { Pane } from "../engine/panes";
import { NO_TIMES, type RowKeeper, Rows } from "../engine/rows";
import type { Window } from "../engine/windows";
import { CorruptEncodingError } from "../errors";
import { BundleChunks, isChunkId, rowOfChunk } from "./bag";
import type { Views } from "./side-inputs";

/** What one shard has grouped so far. Two engines keep it: see `loadGrouping`. */
export interface Grouping {
  readonly holdMs: number;
  readonly nextTimerMs: number;
  readonly nextProcessingTimerMs: number;
  readonly isEmpty: boolean;
  /** Makes the last bundle's changes its own. */
  accept(): void;
  /** What the last bundle changed. */
  changes(): StateChange[];
  shared(): Buffer | undefined;
  begin(accumulation: Accumulation, out: Emitter, watermarkMs: number, nowMs?: number): OpenGrouping;
}

/** The same as one bundle sees it. */
export interface OpenGrouping<G = Grouping> {
  readonly droppedLate: number;
  /** Of a stage that begins with a transform with side inputs. */
  readonly views?: Views;
  /** `add` wants `EncodedValues` instead of the value. */
  readonly takesEncodings?: boolean;
  add(keyId: KeyId, key: unknown, value: unknown, window: Window, timestampMs: number, pane: Pane): void;
  /** Of a stateful stage: a timer or an expiry that comes back from dead-letter. */
  replay?(keyId: KeyId, key: unknown, call: unknown, window: Window, timestampMs: number): void;
  advance(watermarkMs: number, limit: number): boolean;
  advanceClock(nowMs: number, limit: number): boolean;
  result(): G;
}

export interface GroupingLoader {
  add(id: string, value: Uint8Array): void;
  open(shared: Uint8Array | undefined): Grouping;
}

/** What of a stage its grouping depends on. */
export interface GroupingPlan {
  readonly stage: string;
  /** Undefined where each window gives one pane at its end: then there is one cell for a key and window. */
  readonly panes: PanePlan | undefined;
  /** The accumulators are `Bag`s. */
  readonly isCollecting: boolean;
  readonly spool: Spool;
}

export function loadGrouping(plan: GroupingPlan): GroupingLoader {
  const { stage, panes, spool } = plan;
  const rows = Rows.builder<StoredRow>(spooling(spool));
  return {
    add(id, value) {
      // A chunk goes to the spool as it comes, and never becomes a string.
      if (isChunkId(id)) rows.add(id, spool.write(value), NO_TIMES);
      else {
        const bytes = Buffer.from(id, "latin1");
        const times = panes ? timesOfPaneRow(bytes, value, stage, panes) : timesOfCell(bytes, stage);
        rows.add(id, latin1(value), times);
      }
    },
    open(shared) {
      if (panes === undefined) {
        return new OnceGrouping(plan, { watermarkMs: decodeShared(shared, stage), rows: rows.build() });
      }
      const times = decodeSharedPanes(shared, stage, panes.trigger.size);
      return new PaneGrouping(plan, panes, { ...times, rows: rows.build() });
    },
  };
}

/** Keeps chunks of large groups in the spool, and everything else in memory. */
export function spooling(spool: Spool): RowKeeper<StoredRow> {
  return {
    keep: (id, row) =>
      typeof row === "string" && isChunkId(id) ? spool.write(Buffer.from(row, "latin1")) : row,
    drop(row) {
      if (typeof row === "number") spool.free(row);
    },
  };
}

function chunksOf(
  { stage, isCollecting, spool }: GroupingPlan,
  rows: Rows<StoredRow>,
): BundleChunks | undefined {
  if (!isCollecting) return undefined;
  const read = (id: string): Uint8Array => {
    const row = rows.get(id);
    if (row === undefined) throw new CorruptEncodingError(`${stateOf(stage)} lacks a part of a large group`);
    return typeof row === "number" ? spool.read(row) : Buffer.from(row, "latin1");
  };
  return new BundleChunks(read, stateOf(stage));
}

/** The state with the rows of chunks that the bundle has made or needs no longer. */
function withChunks<S extends { readonly rows: Rows<StoredRow> }>(
  state: S,
  chunks: BundleChunks | undefined,
): S {
  if (chunks === undefined) return state;
  return { ...state, rows: state.rows.and(chunks.changes(state.rows.changes)) };
}

class OnceGrouping implements Grouping {
  constructor(
    private readonly plan: GroupingPlan,
    private readonly state: AggregateState<StoredRow>,
  ) {}

  get holdMs(): number {
    return holdOf(this.state);
  }
  get nextTimerMs(): number {
    return nextTimerOf(this.state);
  }
  readonly nextProcessingTimerMs = Infinity;

  get isEmpty(): boolean {
    return this.state.rows.isEmpty;
  }
  accept(): void {
    this.state.rows.accept();
  }
  changes(): StateChange[] {
    return changesOf(this.state.rows, keyOffset);
  }
  shared(): Buffer | undefined {
    return encodeShared(this.state.watermarkMs);
  }

  begin(accumulation: Accumulation, out: Emitter, watermarkMs: number): OpenGrouping {
    return new OpenOnceGrouping(this.plan, this.state, accumulation, out, watermarkMs);
  }
}

class OpenOnceGrouping implements OpenGrouping {
  readonly takesEncodings: boolean;
  private readonly chunks: BundleChunks | undefined;
  private readonly bundle: TentativeAggregation<StoredRow>;

  constructor(
    private readonly plan: GroupingPlan,
    state: AggregateState<StoredRow>,
    accumulation: Accumulation,
    private readonly out: Emitter,
    watermarkMs: number,
  ) {
    this.takesEncodings = plan.isCollecting;
    this.chunks = chunksOf(plan, state.rows);
    const codec = cellCodec(plan.stage, this.chunks);
    this.bundle = new TentativeAggregation(state, accumulation, codec, watermarkMs);
  }

  get droppedLate(): number {
    return this.bundle.droppedLate;
  }
  add(keyId: KeyId, key: unknown, value: unknown, window: Window): void {
    this.bundle.add(keyId, key, value, window);
  }
  advance(watermarkMs: number, limit: number): boolean {
    return this.bundle.advance(watermarkMs, limit, this.out);
  }
  advanceClock(): boolean {
    return false;
  }
  result(): Grouping {
    return new OnceGrouping(this.plan, withChunks(this.bundle.result(), this.chunks));
  }
}

class PaneGrouping implements Grouping {
  constructor(
    private readonly plan: GroupingPlan,
    private readonly panes: PanePlan,
    private readonly state: PaneState<StoredRow>,
  ) {}

  get holdMs(): number {
    return holdOfPanes(this.state);
  }
  get nextTimerMs(): number {
    return nextTimerOfPanes(this.state);
  }
  get nextProcessingTimerMs(): number {
    return nextProcessingTimerOfPanes(this.state);
  }

  get isEmpty(): boolean {
    return this.state.rows.isEmpty;
  }
  accept(): void {
    this.state.rows.accept();
  }
  changes(): StateChange[] {
    return changesOf(this.state.rows, () => 0);
  }
  shared(): Buffer | undefined {
    return encodeSharedPanes(this.state, this.panes.trigger.size);
  }

  begin(accumulation: Accumulation, out: Emitter, watermarkMs: number, nowMs?: number): OpenGrouping {
    return new OpenPaneGrouping(this.plan, this.panes, this.state, accumulation, out, watermarkMs, nowMs);
  }
}

class OpenPaneGrouping implements OpenGrouping {
  readonly takesEncodings: boolean;
  private readonly chunks: BundleChunks | undefined;
  private readonly bundle: TentativePanes<StoredRow>;

  constructor(
    private readonly plan: GroupingPlan,
    private readonly panes: PanePlan,
    state: PaneState<StoredRow>,
    accumulation: Accumulation,
    out: Emitter,
    watermarkMs: number,
    nowMs: number | undefined,
  ) {
    this.takesEncodings = plan.isCollecting;
    this.chunks = chunksOf(plan, state.rows);
    const codec = paneCodec(plan.stage, panes.trigger.size, this.chunks);
    this.bundle = new TentativePanes(panes, state, accumulation, codec, out, watermarkMs, nowMs);
  }

  get droppedLate(): number {
    return this.bundle.droppedLate;
  }
  add(keyId: KeyId, key: unknown, value: unknown, window: Window, timestampMs: number): void {
    this.bundle.add(keyId, key, value, window, timestampMs);
  }
  advance(watermarkMs: number, limit: number): boolean {
    return this.bundle.advance(watermarkMs, limit);
  }
  advanceClock(nowMs: number, limit: number): boolean {
    return this.bundle.advanceClock(nowMs, limit);
  }
  result(): Grouping {
    return new PaneGrouping(this.plan, this.panes, withChunks(this.bundle.result(), this.chunks));
  }
}

/** Ids on their way to their hashes. */
let hashed = Buffer.allocUnsafeSlow(1024);

/** `keyFrom` tells where the key begins in the id of a row. */
export function changesOf(rows: Rows<StoredRow>, keyFrom: (id: string) => number): StateChange[] {
  const changes: StateChange[] = [];
  for (const [id, { value }] of rows.changes) {
    const row = isChunkId(id) ? rowOfChunk(id) : id;
    if (row.length > hashed.length) hashed = Buffer.allocUnsafeSlow(2 * row.length);
    putLatin1(hashed, row);
    changes.push({
      keyHash: murmur3(hashed, keyFrom(row), row.length),
      id,
      value: value as string | undefined,
    });
  }
  return changes;
}

export function latin1(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("latin1");
}
