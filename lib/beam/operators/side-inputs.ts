import type { StateChange } from "../api";
import {
  decodeSharedSides,
  encodeSharedSides,
  sideInputCodec,
  timesOfSideInputRow,
} from "../coders/side-input-coder";
import type { Accumulation, Emitter, KeyId } from "../engine/aggregation";
import type { Pane } from "../engine/panes";
import { Rows } from "../engine/rows";
import {
  holdOfParked,
  nextTimerOfParked,
  type Process,
  type SideInput,
  type SideInputCodec,
  type SideInputState,
  TentativeSideInputs,
  windowMapping,
} from "../engine/side-inputs";
import type { Window } from "../engine/windows";
import type { FusedStage } from "../graph/fusion";
import { type Graph, hasSides } from "../graph/node";
import { changesOf, type Grouping, type GroupingLoader, latin1, type OpenGrouping } from "./grouping";

/** What a transform's context parameters look their side inputs up in. */
export interface Views {
  lookup(tag: string, window: Window): readonly unknown[];
}

/** The side inputs of a stage that begins with a transform that has some; none where elements need not wait. */
export function sideInputsOf(
  { root }: FusedStage,
  windowing: Graph["windowing"],
): readonly SideInput[] | undefined {
  if (root.work.kind === "reshuffle") return [];
  if (!hasSides(root)) return undefined;
  const main = windowing.get(root.inputs[0]!)!;
  return Object.entries(root.sides).map(([tag, view]) => {
    const side = windowing.get(view)!;
    const latenessMs = Math.max(main.allowedLatenessMs, side.allowedLatenessMs);
    return { tag, mapWindow: windowMapping(side), latenessMs };
  });
}

export function loadSideInputs(stage: string, sides: readonly SideInput[]): GroupingLoader {
  const rows = Rows.builder<string>();
  return {
    add(id, value) {
      const times = timesOfSideInputRow(Buffer.from(id, "latin1"), value, stage, sides);
      rows.add(id, latin1(value), times);
    },
    open(shared) {
      const state = { watermarkMs: decodeSharedSides(shared, stage), rows: rows.build() };
      return new SideInputGrouping(sides, sideInputCodec(stage), state);
    },
  };
}

/** What a stage with side inputs keeps, in the form of what a stage that groups keeps. */
class SideInputGrouping implements Grouping {
  constructor(
    private readonly sides: readonly SideInput[],
    private readonly codec: SideInputCodec<string>,
    private readonly state: SideInputState<string>,
  ) {}

  get holdMs(): number {
    return holdOfParked(this.state);
  }
  get nextTimerMs(): number {
    return nextTimerOfParked(this.state);
  }
  readonly nextProcessingTimerMs = Infinity;

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
    return encodeSharedSides(this.state.watermarkMs);
  }

  begin(_accumulation: Accumulation, out: Emitter, watermarkMs: number): OpenGrouping {
    const { sides, codec } = this;
    const process: Process = (value, timestampMs, window, pane) =>
      out.emit(undefined, value, timestampMs, window, pane);
    const open = new TentativeSideInputs(sides, this.state, codec, process, watermarkMs);
    return new OpenSideInputs(sides, codec, open);
  }
}

class OpenSideInputs implements OpenGrouping {
  constructor(
    private readonly sides: readonly SideInput[],
    private readonly codec: SideInputCodec<string>,
    readonly views: TentativeSideInputs<string>,
  ) {}

  get droppedLate(): number {
    return this.views.droppedLate;
  }
  add(_id: KeyId, tag: unknown, value: unknown, window: Window, timestampMs: number, pane: Pane): void {
    if (tag === undefined) this.views.add({ value, timestampMs, window, pane });
    else this.views.addPane(tag as string, value as unknown[], window);
  }
  advance(watermarkMs: number, limit: number): boolean {
    return this.views.advance(watermarkMs, limit);
  }
  advanceClock(): boolean {
    return false;
  }
  result(): Grouping {
    return new SideInputGrouping(this.sides, this.codec, this.views.result());
  }
}
