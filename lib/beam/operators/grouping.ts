import { decodePaneState, encodePaneState } from "../coders/pane-state-coder";
import { decodeState, encodeState } from "../coders/state-coder";
import {
  type Accumulation,
  type AggregateState,
  type Emit,
  holdOf,
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
import type { Window } from "../engine/windows";
import type { Views } from "./side-inputs";

/** What one shard has grouped so far. Immutable. Two engines keep it: see `decodeGrouping`. */
export interface Grouping {
  readonly holdMs: number;
  readonly nextTimerMs: number;
  readonly nextProcessingTimerMs: number;
  encode(): Buffer | undefined;
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

/** Where each window gives one pane at its end (no `panes`) the state is values only, and its encoding is older. */
export function decodeGrouping(
  bytes: Uint8Array | undefined,
  stage: string,
  panes: PanePlan | undefined,
): Grouping {
  if (panes === undefined) return new OnceGrouping(decodeState(bytes, stage));
  return new PaneGrouping(panes, decodePaneState(bytes, stage, panes.trigger.size));
}

class OnceGrouping implements Grouping {
  constructor(private readonly state: AggregateState) {}

  get holdMs(): number {
    return holdOf(this.state);
  }
  get nextTimerMs(): number {
    return nextTimerOf(this.state);
  }
  readonly nextProcessingTimerMs = Infinity;

  encode(): Buffer | undefined {
    return encodeState(this.state);
  }

  begin(accumulation: Accumulation, emit: Emit, watermarkMs: number): OpenGrouping {
    return new OpenOnce(new TentativeAggregation(this.state, accumulation, watermarkMs), emit);
  }
}

class OpenOnce implements OpenGrouping {
  constructor(
    private readonly aggregation: TentativeAggregation,
    private readonly emit: Emit,
  ) {}

  get droppedLate(): number {
    return this.aggregation.droppedLate;
  }
  add(keyId: string, key: unknown, value: unknown, window: Window): void {
    this.aggregation.add(keyId, key, value, window);
  }
  advance(watermarkMs: number, limit: number): boolean {
    return this.aggregation.advance(watermarkMs, limit, this.emit);
  }
  advanceClock(): boolean {
    return false;
  }
  result(): Grouping {
    return new OnceGrouping(this.aggregation.result());
  }
}

class PaneGrouping implements Grouping {
  constructor(
    private readonly plan: PanePlan,
    private readonly state: PaneState,
  ) {}

  get holdMs(): number {
    return holdOfPanes(this.state, this.plan);
  }
  get nextTimerMs(): number {
    return nextTimerOfPanes(this.state, this.plan);
  }
  get nextProcessingTimerMs(): number {
    return nextProcessingTimerOfPanes(this.state, this.plan);
  }

  encode(): Buffer | undefined {
    return encodePaneState(this.state, this.plan.trigger.size);
  }

  begin(accumulation: Accumulation, emit: Emit, watermarkMs: number, nowMs?: number): OpenGrouping {
    const { plan } = this;
    const panes = new TentativePanes(plan, this.state, accumulation, emit, watermarkMs, nowMs);
    return {
      get droppedLate() {
        return panes.droppedLate;
      },
      add: (keyId, key, value, window, timestampMs) => panes.add(keyId, key, value, window, timestampMs),
      advance: (watermark, limit) => panes.advance(watermark, limit),
      advanceClock: (now, limit) => panes.advanceClock(now, limit),
      result: () => new PaneGrouping(plan, panes.result()),
    };
  }
}
