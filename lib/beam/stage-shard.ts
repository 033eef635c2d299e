import type {
  BoundedWindow,
  BundleClock,
  BundleResult,
  Pane,
  SetAside,
  ShardLoader,
  Spool,
  StageShard,
  TentativeBundle,
} from "./api";
import { ByteReader } from "./coders/byte-reader";
import { type MutablePlace, readPlace } from "./coders/element-coder";
import { keyId } from "./coders/key";
import { readValue } from "./coders/value-coder";
import type { Emitter } from "./engine/aggregation";
import { NO_FIRING } from "./engine/panes";
import type { TentativeReads } from "./engine/reads";
import { clampTimestamp } from "./engine/time";
import { GLOBAL_WINDOW } from "./engine/windows";
import { isShuffle, readsWithoutEnd } from "./graph/node";
import { accumulationOf, guarded, type Lifted } from "./operators/accumulation";
import { BundleZnodes } from "./operators/bundle-znodes";
import { CallGate } from "./operators/call-gate";
import { AsyncOperator } from "./operators/calls";
import { Place } from "./operators/context";
import { Finalizations } from "./operators/finalizations";
import { type Grouping, loadGrouping, type OpenGrouping } from "./operators/grouping";
import { BundleMetrics } from "./operators/metrics";
import { Origins } from "./operators/origin";
import { BundleOutputs } from "./operators/outputs";
import { loadReads, ReadState } from "./operators/reads";
import type { Receiver } from "./operators/receiver";
import { PaneGate } from "./operators/set-aside";
import { loadSideInputs } from "./operators/side-inputs";
import { type StageOperators, type StagePlan, wireStage } from "./operators/stage-operators";
import { loadStateful, StatefulState } from "./operators/stateful";
import { StatefulCode } from "./operators/stateful-code";
import { UserCode } from "./operators/user-code";

/** A shard whose cells come one by one, or an empty one. */
export function loadStageShard(plan: StagePlan, spool: Spool = memorySpool()): ShardLoader {
  const loader = loaderOf(plan, spool);
  return {
    add: (id, value) => loader.add(id, value),
    open: (shared) => new Shard(plan, loader.open(shared), spool),
  };
}

function loaderOf({ stage, panes, sides, stateful }: StagePlan, spool: Spool): ContentsLoader {
  const { work } = stage.root;
  if (stateful !== undefined) return loadStateful({ id: stage.id, plan: stateful, spool });
  if (sides !== undefined) return loadSideInputs(stage.id, sides);
  if (work.kind === "splittable" && readsWithoutEnd(work)) return loadReads(stage.id);
  return loadGrouping({ stage: stage.id, panes, isCollecting: work.kind !== "combine", spool });
}

function memorySpool(): Spool {
  const kept = new Map<number, Uint8Array>();
  let next = 0;
  return {
    write: (bytes) => {
      kept.set(++next, Buffer.from(bytes));
      return next;
    },
    read: (handle) => kept.get(handle)!,
    free: (handle) => void kept.delete(handle),
  };
}

const NOTHING: SetAside = new Set();
const NO_BYTES = Buffer.alloc(0);

/** What a shard keeps, of whatever kind its stage is. */
type Contents = Grouping | StatefulState | ReadState;

interface ContentsLoader {
  add(id: string, value: Uint8Array): void;
  open(shared: Uint8Array | undefined): Contents;
}

class Shard implements StageShard {
  constructor(
    private readonly plan: StagePlan,
    private readonly state: Contents,
    private readonly spool: Spool,
  ) {}

  accept(): void {
    this.state.accept();
  }

  beginBundle(
    inputWatermarkMs: number,
    nowMs?: number,
    setAside: SetAside = NOTHING,
    clock?: BundleClock,
  ): TentativeBundle {
    return new Bundle(this.plan, this.state, this.spool, inputWatermarkMs, nowMs, setAside, clock);
  }
}

/** Of a bundle whose panes are all set aside, so that nothing comes here. */
const UNWIRED: StageOperators = {
  operators: [],
  first: {
    receive() {
      throw new Error("a bundle that sets everything aside emits nothing");
    },
  },
};

class Bundle implements TentativeBundle, Emitter {
  private readonly outputs: BundleOutputs;
  private readonly metrics = new BundleMetrics();
  private readonly finalizations = new Finalizations();
  private readonly znodes: BundleZnodes;
  private readonly origins = new Origins(() => this.gate?.current);
  private readonly stage: StageOperators;
  private readonly calls: readonly AsyncOperator[];
  private readonly aggregation: OpenGrouping<Contents> | undefined;
  private readonly gate: PaneGate | CallGate | undefined;
  readonly reads: TentativeReads<string> | undefined;
  private readonly reader = new ByteReader(NO_BYTES, "an element of an inbox");
  private readonly place: MutablePlace = {
    form: "element",
    timestampMs: 0,
    window: GLOBAL_WINDOW,
    pane: NO_FIRING,
  };
  private readonly values = { reader: this.reader, count: 1 };
  private elementsIn = 0;
  /** How often it was given something: what was gathered upstream comes together. */
  private inputs = 0;
  private lateWithin = 0;
  private used = false;
  private isDrained = false;

  constructor(
    private readonly plan: StagePlan,
    private readonly before: Contents,
    private readonly spool: Spool,
    inputWatermarkMs: number,
    nowMs: number | undefined,
    setAside: SetAside,
    clock: BundleClock | undefined,
  ) {
    this.outputs = new BundleOutputs(spool);
    this.znodes = new BundleZnodes(plan.followed);
    const { root, id } = plan.stage;
    if (Number.isNaN(inputWatermarkMs))
      throw new RangeError(`stage "${id}": the input watermark is not a number`);
    if (Number.isNaN(nowMs)) throw new RangeError(`stage "${id}": the processing time is not a number`);
    if (before instanceof ReadState) this.reads = before.begin();
    else if (before instanceof StatefulState) {
      this.gate = new CallGate(setAside);
      this.aggregation = before.begin(this.statefulCode(this.gate), inputWatermarkMs, nowMs);
    } else if (isShuffle(root) && root.work.kind !== "splittable") {
      const accumulation = accumulationOf(root, new UserCode(plan.pipeline, root.name));
      const gate = new PaneGate(accumulation, this, setAside);
      this.gate = gate;
      this.aggregation = before.begin(gate.accumulation, gate, inputWatermarkMs, nowMs);
    }
    const { outputs, metrics, finalizations, origins, znodes } = this;
    const { views } = this.aggregation ?? {};
    const surroundings = { outputs, metrics, finalizations, origins, clock, znodes, views };
    this.stage = setAside === "all" ? UNWIRED : wireStage(plan, surroundings);
    this.calls = this.stage.operators.filter((operator) => operator instanceof AsyncOperator);
    for (const operator of this.stage.operators) operator.start?.();
  }

  get pendingBytes(): number {
    return this.outputs.pendingBytes;
  }

  get panes(): TentativeBundle["panes"] {
    const { failed } = this.origins;
    return { begun: this.gate?.count ?? 0, failed: failed === undefined ? this.gate?.current : failed.pane };
  }

  get failedElement(): number | undefined {
    return this.origins.failed?.element;
  }

  get isAsync(): boolean {
    return this.calls.length > 0;
  }

  get isBusy(): boolean {
    for (const call of this.calls) if (call.isBusy) return true;
    return false;
  }

  async room(): Promise<void> {
    for (const call of this.calls) if (call.isBusy) await call.room();
  }

  async drain(): Promise<void> {
    this.isDrained = true;
    for (const operator of this.stage.operators) {
      if (operator instanceof AsyncOperator) await operator.drain();
      else operator.finish?.();
    }
  }

  processSourceElement(value: unknown, timestampMs: number): void {
    this.checkUsable(this.aggregation === undefined, "reads a shuffle; give it processElement");
    if (Number.isNaN(timestampMs))
      throw new RangeError("the timestamp of a source's element is not a number");
    this.origins.element = this.inputs++;
    this.elementsIn++;
    this.stage.first.receive(value, clampTimestamp(timestampMs), GLOBAL_WINDOW, NO_FIRING);
    this.origins.element = undefined;
  }

  processRecord(value: unknown, timestampMs: number, window: BoundedWindow, pane: Pane): void {
    this.checkUsable(this.plan.stage.root.work.kind === "splittable", "does not read in parts");
    if (Number.isNaN(timestampMs)) throw new RangeError("the timestamp of a record is not a number");
    this.origins.element = this.inputs++;
    this.elementsIn++;
    this.stage.first.receive(value, clampTimestamp(timestampMs), window, pane);
    this.origins.element = undefined;
  }

  processElement(encoded: Uint8Array, start = 0, end = encoded.length): void {
    this.checkUsable(this.aggregation !== undefined, "reads a source; give it processSourceElement");
    const { reader, place } = this;
    reader.reset(encoded, start, end);
    readPlace(reader, place);
    const { form, timestampMs, window, pane } = place;
    const key = readValue(reader);
    if (form === "gathered" || (form === "element" && this.aggregation!.takesEncodings)) {
      this.addEncoded(key, form === "gathered" ? reader.count() : 1);
      return;
    }
    const value = readValue(reader);
    reader.end();
    this.origins.element = this.inputs++;
    this.elementsIn++;
    if (form === "element") this.add(keyId(key), key, value, window, timestampMs, pane);
    else if (this.aggregation!.replay) this.aggregation!.replay(keyId(key), key, value, window, timestampMs);
    else if (form === "pane") this.emit(key, value, timestampMs, window, pane);
    else this.emit(key, this.extract(value), timestampMs, window, pane);
    this.origins.element = undefined;
  }

  /** Values of a key, at which the reader stands. */
  private addEncoded(key: unknown, count: number): void {
    const { reader, values, aggregation } = this;
    const { window, timestampMs, pane } = this.place;
    if (!aggregation!.takesEncodings) reader.fail("several values come where each has to come alone");
    values.count = count;
    const before = aggregation!.droppedLate;
    this.origins.element = this.inputs++;
    this.elementsIn += count;
    aggregation!.add(keyId(key), key, values, window, timestampMs, pane);
    if (aggregation!.droppedLate > before) this.lateWithin += count - 1;
    this.origins.element = undefined;
  }

  private add(...element: Parameters<OpenGrouping["add"]>): void {
    const aggregation = this.aggregation!;
    const before = aggregation.droppedLate;
    aggregation.add(...element);
    // An accumulator that came too late is as many elements as it was made of.
    if (aggregation.droppedLate > before && this.isLifted) this.lateWithin += (element[2] as Lifted)[0] - 1;
  }

  private get isLifted(): boolean {
    const { work } = this.plan.stage.root;
    return work.kind === "combine" && work.isLifted;
  }

  advanceWatermark(watermarkMs: number, maxTimers: number): boolean {
    this.checkUsable(!Number.isNaN(watermarkMs), "was given a watermark that is not a number");
    return this.aggregation?.advance(watermarkMs, maxTimers) ?? false;
  }

  advanceProcessingTime(nowMs: number, maxTimers: number): boolean {
    this.checkUsable(!Number.isNaN(nowMs), "was given a processing time that is not a number");
    return this.aggregation?.advanceClock(nowMs, maxTimers) ?? false;
  }

  finish(): BundleResult {
    this.checkUsable(
      !this.isAsync || this.isDrained,
      "has asynchronous transforms: await drain() before finish()",
    );
    if (!this.isDrained) for (const operator of this.stage.operators) operator.finish?.();
    this.used = true;
    const state = this.contents();
    return {
      outputs: this.outputs.byStage,
      pendingBytes: this.outputs.pendingBytes,
      effects: this.outputs.effects,
      setAside: this.gate?.setAside ?? [],
      finalizations: this.finalizations.all(),
      znodeChecks: this.znodes.checks,
      shard: new Shard(this.plan, state, this.spool),
      stateChanges: state === this.before ? [] : state.changes(),
      isStateEmpty: state.isEmpty,
      sharedState: state.shared(),
      holdMs: state.holdMs,
      nextTimerMs: state.nextTimerMs,
      nextProcessingTimerMs: state.nextProcessingTimerMs,
      counters: {
        elementsIn: this.elementsIn,
        elementsOut: this.outputs.elements,
        droppedLate: (this.aggregation?.droppedLate ?? 0) + this.lateWithin,
      },
      metrics: this.metrics,
    };
  }

  dispose(): void {
    for (const call of this.calls) call.abandon();
    this.outputs.dispose();
  }

  private extract(accumulator: unknown): unknown {
    const { pipeline, stage } = this.plan;
    return accumulationOf(stage.root, new UserCode(pipeline, stage.root.name)).extract(accumulator);
  }

  private statefulCode(gate: CallGate): StatefulCode {
    const { pipeline, stage, stateful } = this.plan;
    const code = new UserCode(pipeline, stage.root.name);
    const { metrics, finalizations, znodes } = this;
    const place = new Place(code.transform, { metrics, finalizations, znodes, views: undefined });
    const next: Receiver = {
      receive: (value, timestampMs, window, pane) =>
        this.stage.first.receive(value, timestampMs, window, pane),
    };
    return new StatefulCode(stateful!, code, gate, place, next);
  }

  private contents(): Contents {
    const { aggregation, reads, before } = this;
    if (reads !== undefined && before instanceof ReadState) return before.after(reads);
    if (aggregation === undefined) return before;
    try {
      return aggregation.result();
    } catch (error) {
      // An accumulator that is no plain data: the user's CombineFn makes it.
      throw new UserCode(this.plan.pipeline, this.plan.stage.root.name).failureOutsideElements(error);
    }
  }

  /** By a coder of the user's, if it has one. */
  private decoded(part: "key" | "value", plain: unknown): unknown {
    const { pipeline, stage } = this.plan;
    const coder = stage.root.coders?.[part];
    if (coder === undefined) return plain;
    return guarded(new UserCode(pipeline, stage.root.name), plain, () => coder.fromPlain(plain));
  }

  /** A pane of the grouping, on its way to the transforms behind it. */
  emit(key: unknown, value: unknown, timestampMs: number, window: BoundedWindow, pane: Pane): void {
    const isGroup = this.plan.sides === undefined;
    const element = isGroup ? { key: this.decoded("key", key), value } : this.decoded("value", value);
    this.stage.first.receive(element, timestampMs, window, pane);
  }

  private checkUsable(fits: boolean, otherwise: string): void {
    if (fits && !this.used) return;
    const stage = `stage "${this.plan.stage.id}" of pipeline "${this.plan.pipeline}"`;
    if (this.used) throw new Error(`${stage}: the bundle has been finished; begin another one`);
    throw new Error(`${stage} ${otherwise}`);
  }
}
