import type { Spool, StateChange } from "../api";
import {
  decodeSharedKeyed,
  encodeSharedKeyed,
  keyedCodec,
  keyedRowGroup,
  keyOffsetOfKeyed,
  timesOfKeyedRow,
} from "../coders/keyed-state-coder";
import type { StoredRow } from "../coders/state-coder";
import type { KeyId } from "../engine/aggregation";
import { type KeyedCodec, OpenPlace } from "../engine/keyed-place";
import {
  holdOfKeyed,
  type KeyedState,
  nextClockOfKeyed,
  nextTimerOfKeyed,
  TentativeKeyedState,
} from "../engine/keyed-state";
import type { Pane } from "../engine/panes";
import { NO_TIMES, Rows } from "../engine/rows";
import type { Windowing } from "../engine/windowing";
import type { Window } from "../engine/windows";
import type { StatefulSpec } from "../graph/stateful";
import { isChunkId } from "./bag";
import type { Operator } from "./elementwise";
import { changesOf, type Grouping, latin1, type OpenGrouping, spooling } from "./grouping";
import type { OutputList } from "./output-list";
import type { BundleOutputs } from "./outputs";
import { type CellRows, PlaceCells } from "./state-cells";
import type { ReplayedCall, StatefulCode, StatefulPlan } from "./stateful-code";
import type { UserCode } from "./user-code";

export function planStateful(spec: StatefulSpec, windowing: Windowing): StatefulPlan {
  const { state = {}, timers = {}, requiresTimeSortedInput = false, onWindowExpiration } = spec.doFn;
  return {
    spec,
    cells: Object.values(state),
    cellNames: Object.keys(state),
    timerNames: Object.keys(timers),
    keyed: {
      windowing,
      isSorted: requiresTimeSortedInput,
      hasExpiration: onWindowExpiration !== undefined,
      timers: Object.values(timers).map(({ domain }) => domain),
    },
  };
}

/** The end of a stage before a stateful transform, which gets the elements by key. */
export class KeyingOperator implements Operator {
  private readonly list: OutputList;

  constructor(
    stage: string,
    private readonly keyOf: NonNullable<StatefulSpec["keyOf"]>,
    private readonly code: UserCode,
    outputs: BundleOutputs,
  ) {
    this.list = outputs.list(stage);
  }

  receive(value: unknown, timestampMs: number, window: Window, pane: Pane): void {
    const { keyOf } = this;
    try {
      this.list.addKeyed(keyOf(value), value, timestampMs, window, pane);
    } catch (error) {
      throw this.code.failure(error, value);
    }
  }
}

/** What a stateful stage needs to know to keep its state. */
interface StatefulStage {
  readonly id: string;
  readonly plan: StatefulPlan;
  readonly spool: Spool;
}

export function loadStateful(stage: StatefulStage): {
  add(id: string, value: Uint8Array): void;
  open(shared: Uint8Array | undefined): StatefulState;
} {
  const { id: name, plan, spool } = stage;
  const rows = Rows.builder<StoredRow>(spooling(spool), keyedRowGroup);
  return {
    add(id, value) {
      if (isChunkId(id)) rows.add(id, spool.write(value), NO_TIMES);
      else {
        const bytes = Buffer.from(id, "latin1");
        rows.add(id, latin1(value), timesOfKeyedRow(bytes, value, name, plan.keyed));
      }
    },
    open: (shared) => new StatefulState(stage, { ...decodeSharedKeyed(shared, name), rows: rows.build() }),
  };
}

/** What a stateful stage keeps, in the form of what a stage that groups keeps. */
export class StatefulState implements Omit<Grouping, "begin"> {
  constructor(
    private readonly stage: StatefulStage,
    private readonly state: KeyedState<StoredRow>,
  ) {}

  get holdMs(): number {
    return holdOfKeyed(this.state);
  }
  get nextTimerMs(): number {
    return nextTimerOfKeyed(this.state);
  }
  get nextProcessingTimerMs(): number {
    return nextClockOfKeyed(this.state);
  }

  get isEmpty(): boolean {
    return this.state.rows.isEmpty;
  }
  accept(): void {
    this.state.rows.accept();
  }
  changes(): StateChange[] {
    return changesOf(this.state.rows, keyOffsetOfKeyed);
  }
  shared(): Buffer | undefined {
    return encodeSharedKeyed(this.state);
  }

  begin(code: StatefulCode, watermarkMs: number, nowMs?: number): OpenGrouping<StatefulState> {
    const { stage, state } = this;
    const codec = codecOf(stage, rowsOf(stage, state.rows));
    const bundle = new TentativeKeyedState(stage.plan.keyed, state, codec, code, watermarkMs, nowMs);
    code.serve(bundle);
    return new OpenStateful(stage, code, bundle);
  }
}

class OpenStateful implements OpenGrouping<StatefulState> {
  constructor(
    private readonly stage: StatefulStage,
    private readonly code: StatefulCode,
    private readonly bundle: TentativeKeyedState<StoredRow, PlaceCells>,
  ) {}

  get droppedLate(): number {
    return this.bundle.droppedLate;
  }
  add(keyId: KeyId, key: unknown, value: unknown, window: Window, timestampMs: number, pane: Pane): void {
    this.bundle.add(keyId, key, { value, timestampMs, pane }, window);
  }
  replay(keyId: KeyId, key: unknown, value: unknown, window: Window, outputMs: number): void {
    const call = value as ReplayedCall;
    if ("expired" in call) this.code.expire(expiredPlace(this.stage, key, window, call.expired));
    else {
      const { timer, tag, timeMs, isHeld } = call;
      const index = this.stage.plan.timerNames.indexOf(timer);
      this.bundle.replay(keyId, key, window, { index, tag, timeMs, outputMs, isHeld });
    }
  }
  advance(watermarkMs: number, limit: number): boolean {
    return this.bundle.advance(watermarkMs, limit);
  }
  advanceClock(nowMs: number, limit: number): boolean {
    return this.bundle.advanceClock(nowMs, limit);
  }
  result(): StatefulState {
    return new StatefulState(this.stage, this.bundle.result());
  }
}

function codecOf({ id, plan }: StatefulStage, rows: CellRows): KeyedCodec<StoredRow, PlaceCells> {
  return keyedCodec(id, {
    open: (place, own) => new PlaceCells(plan.cells, id, place, rows, own),
    own: (cells) => cells.own(),
  });
}

function rowsOf({ spool }: StatefulStage, rows: Rows<StoredRow>): CellRows {
  return {
    get(id) {
      const row = rows.get(id);
      if (row === undefined) return undefined;
      return typeof row === "string" ? Buffer.from(row, "latin1") : spool.read(row);
    },
    inGroup: (name) => rows.inGroup(name),
  };
}

const NO_ROWS: CellRows = { get: () => undefined, inGroup: () => [] };

/** A place as it was when its window expired, for once: it is not kept. */
function expiredPlace(
  stage: StatefulStage,
  key: unknown,
  window: Parameters<OpenGrouping["add"]>[3],
  state: Readonly<Record<string, unknown>>,
): OpenPlace<StoredRow, PlaceCells> {
  const codec = codecOf(stage, NO_ROWS);
  const id = codec.placeId(key, window);
  const row = codec.create(id, key, window);
  for (const [index, name] of stage.plan.cellNames.entries())
    if (Object.hasOwn(state, name)) row.cells.cell(index).restore(state[name]);
  return new OpenPlace(id, 0, false, row, stage.plan.keyed.windowing);
}
