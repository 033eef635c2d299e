import type { StateChange } from "../api";
import { readCodec, timesOfReadRow } from "../coders/read-coder";
import { TentativeReads } from "../engine/reads";
import { Rows } from "../engine/rows";
import { changesOf, type Grouping, latin1 } from "./grouping";

/** What a stage keeps that reads without end, in the form of what a stage that groups keeps. */
export class ReadState implements Omit<Grouping, "begin"> {
  readonly nextTimerMs = Infinity;

  constructor(
    private readonly stage: string,
    private readonly rows: Rows<string>,
  ) {}

  get holdMs(): number {
    return this.rows.least("holdMs");
  }
  get nextProcessingTimerMs(): number {
    return this.rows.least("clockMs");
  }
  get isEmpty(): boolean {
    return this.rows.isEmpty;
  }
  accept(): void {
    this.rows.accept();
  }
  changes(): StateChange[] {
    return changesOf(this.rows, () => 0);
  }
  shared(): undefined {
    return undefined;
  }

  begin(): TentativeReads<string> {
    return new TentativeReads(this.rows, readCodec(this.stage));
  }

  after(reads: TentativeReads<string>): ReadState {
    return new ReadState(this.stage, reads.result());
  }
}

export function loadReads(stage: string): {
  add(id: string, value: Uint8Array): void;
  open(): ReadState;
} {
  const rows = Rows.builder<string>();
  return {
    add: (id, value) => rows.add(id, latin1(value), timesOfReadRow(value, stage)),
    open: () => new ReadState(stage, rows.build()),
  };
}
