import type { StateChange } from "../api";
import { murmur3 } from "../coders/key";
import { decodeSharedPanes, encodeSharedPanes, paneCodec, timesOfPaneRow } from "../coders/pane-state-coder";
import { cellCodec, decodeShared, encodeShared, keyOffset, timesOfCell } from "../coders/state-coder";
import {
  type Accumulation,
  type AggregateState,
  type CellCodec,
  type Emit,
  holdOf,
  nextTimerOf,
  TentativeAggregation,
} from "../engine/aggregation";
import { TentativePanes } from "../engine/pane-aggregation";
import type { PaneCodec, PaneState } from "../engine/pane-cell";
import {
  holdOfPanes,
  nextProcessingTimerOfPanes,
  nextTimerOfPanes,
  type PanePlan,
} from "../engine/pane-plan";
import type { Pane } from "../engine/panes";
import { Rows } from "../engine/rows";
import type { Window } from "../engine/windows";
import type { Views } from "./side-inputs";

/** What one shard has grouped so far. Two engines keep it: see `loadGrouping`. */
export interface Grouping {
  readonly holdMs: number;
  readonly nextTimerMs: number;
  readonly nextProcessingTimerMs: number;
  readonly isEmpty: boolean;
  /** What the last bundle changed. */
  changes(): StateChange[];
  shared(): Buffer | undefined;
  begin(accumulation: Accumulation, emit: Emit, watermarkMs: number, nowMs?: number): OpenGrouping;
}

/** The same as one bundle sees it. */
export interface OpenGrouping {
  readonly droppedLate: number;
  /** Of a stage that begins with a transform with side inputs. */
  readonly views?: Views;
  add(keyId: string, key: unknown, value: unknown, window: Window, timestampMs: number, pane: Pane): void;
  advance(watermarkMs: number, limit: number): boolean;
  advanceClock(nowMs: number, limit: number): boolean;
  result(): Grouping;
}

export interface GroupingLoader {
  add(id: Uint8Array, value: Uint8Array): void;
  open(shared: Uint8Array | undefined): Grouping;
}

/** Where each window gives one pane at its end (no `panes`) the state is values only, one cell for a key and window. */
export function loadGrouping(stage: string, panes: PanePlan | undefined): GroupingLoader {
  const rows = Rows.builder<string>();
  const load = (id: Uint8Array, value: Uint8Array): void => {
    const times = panes ? timesOfPaneRow(id, value, stage, panes) : timesOfCell(id, stage);
    rows.add(latin1(id), latin1(value), times);
  };
  return {
    add: load,
    open(shared) {
      if (panes === undefined) {
        const watermarkMs = decodeShared(shared, stage);
        return new OnceGrouping(cellCodec(stage), { watermarkMs, rows: rows.build() });
      }
      const { size } = panes.trigger;
      const state = { ...decodeSharedPanes(shared, stage, size), rows: rows.build() };
      return new PaneGrouping(panes, paneCodec(stage, size), state);
    },
  };
}

class OnceGrouping implements Grouping {
  constructor(
    private readonly codec: CellCodec<string>,
    private readonly state: AggregateState<string>,
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
  changes(): StateChange[] {
    return changesOf(this.state.rows, keyOffset);
  }
  shared(): Buffer | undefined {
    return encodeShared(this.state.watermarkMs);
  }

  begin(accumulation: Accumulation, emit: Emit, watermarkMs: number): OpenGrouping {
    const { codec } = this;
    const bundle = new TentativeAggregation(this.state, accumulation, codec, watermarkMs);
    return {
      get droppedLate() {
        return bundle.droppedLate;
      },
      add: (keyId, key, value, window) => bundle.add(keyId, key, value, window),
      advance: (watermark, limit) => bundle.advance(watermark, limit, emit),
      advanceClock: () => false,
      result: () => new OnceGrouping(codec, bundle.result()),
    };
  }
}

class PaneGrouping implements Grouping {
  constructor(
    private readonly plan: PanePlan,
    private readonly codec: PaneCodec<string>,
    private readonly state: PaneState<string>,
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
  changes(): StateChange[] {
    return changesOf(this.state.rows, () => 0);
  }
  shared(): Buffer | undefined {
    return encodeSharedPanes(this.state, this.plan.trigger.size);
  }

  begin(accumulation: Accumulation, emit: Emit, watermarkMs: number, nowMs?: number): OpenGrouping {
    const { plan, codec } = this;
    const panes = new TentativePanes(plan, this.state, accumulation, codec, emit, watermarkMs, nowMs);
    return {
      get droppedLate() {
        return panes.droppedLate;
      },
      add: (keyId, key, value, window, timestampMs) => panes.add(keyId, key, value, window, timestampMs),
      advance: (watermark, limit) => panes.advance(watermark, limit),
      advanceClock: (now, limit) => panes.advanceClock(now, limit),
      result: () => new PaneGrouping(plan, codec, panes.result()),
    };
  }
}

/** `keyFrom` tells where the key begins in the id of a row. */
export function changesOf(rows: Rows<string>, keyFrom: (id: Uint8Array) => number): StateChange[] {
  const changes: StateChange[] = [];
  for (const [text, { value }] of rows.changes) {
    const id = Buffer.from(text, "latin1");
    changes.push({
      keyHash: murmur3(id.subarray(keyFrom(id))),
      id,
      value: value === undefined ? undefined : Buffer.from(value, "latin1"),
    });
  }
  return changes;
}

export function latin1(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("latin1");
}
