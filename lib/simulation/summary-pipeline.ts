import * as beam from "apache-beam";
import type { CompiledPipeline } from "../beam/api";
import { compilePipeline, type PipelineDefinition } from "../beam/pipeline";
import {
  bagState,
  bundleFinalizer,
  definePipeline,
  eventTimer,
  mapAsync,
  mapState,
  readZnodeChanges,
  readZnodeLatest,
  statefulParDo,
  valueState,
  writeToText,
  writeToZnodes,
  type ZnodeChange,
} from "../index";
import { readRecords } from "./events";
import { readTicks } from "./ticks";

/** What is watched, and where the result znodes and text files go. */
export const SOURCE = "/app";
export const RESULTS = "/results";

/** Where the changed code of a pipeline that is updated copies its results to, by the names of window and znode. */
export const COPIES = "/copies";

/** A znode that summaries look up, where pipelines follow one, and what each of them was committed with. */
export const MARK = "/mark";
export const MARKS = "/marks";

/** One element as user code saw it. */
export interface SeenChange {
  /** The zxid, as text that sorts. */
  readonly order: string;
  readonly kind: ZnodeChange["kind"];
  readonly value: string | null;
  /** The how-manieth element this was that user code got to see, of all, in every attempt; undefined in dead-letter. */
  readonly arrival: number | undefined;
}

/** A zxid as text that sorts. */
export function orderOf(zxid: bigint): string {
  return zxid.toString(16).padStart(16, "0");
}

/** A znode's changes in one window, in the order in which they arrived, and what was missed. */
export interface Summary {
  readonly path: string;
  readonly seen: readonly SeenChange[];
  readonly missed: number;
  readonly atLeast: boolean;
}

/** What the pipeline's user code does beside its results; a run of the simulator puts its own in. */
export interface Probe {
  /** Called for each element that reaches user code; its result travels with the element. May throw, as user code does. */
  arrive: (change: ZnodeChange) => number;
  /** Called for each summary on its way to the sinks. May throw, as user code does. */
  emit: (summary: Summary) => void;
  /** What the calls of an asynchronous transform wait for. */
  answer: () => Promise<void>;
  /** Of the simulated time, for what is read as it goes by. */
  elapsedMs: () => number;
  /** Called with each element of a bundle after its commit. */
  finalize: (elements: readonly FinalizedElement[]) => Promise<void>;
}

/** An element as its finaliser is told of it: path, and zxid as text that sorts. */
export interface FinalizedElement {
  readonly path: string;
  readonly order: string;
}

export interface ProbedPipeline {
  readonly pipeline: CompiledPipeline;
  readonly probe: Probe;
}

/** What user code throws for a value that it cannot bear. */
export class PoisonError extends Error {
  override readonly name = "PoisonError";
}

/** What some pipelines have beside. */
export interface Extras {
  /** Summaries are written as text, too. */
  readonly hasFiles: boolean;
  /** The changed code, which has one more stage. */
  readonly isChanged: boolean;
  /** Records of a queue and of a stream are gathered. */
  readonly hasRecords: boolean;
}

const compiled = new Map<string, ProbedPipeline>();

/** The pipeline with so many shards for each stage. Compiling is slow and gives the same every time. */
export function probedPipeline(shards: number, extras: Extras): ProbedPipeline {
  const name = JSON.stringify([shards, extras]);
  const known = compiled.get(name);
  if (known) return known;
  const probe: Probe = {
    arrive: () => 0,
    emit: () => undefined,
    answer: async () => undefined,
    elapsedMs: () => 0,
    finalize: async () => undefined,
  };
  const made = { pipeline: compilePipeline(summaryPipeline(shards, probe, extras)), probe };
  compiled.set(name, made);
  return made;
}

/** Pipelines with so many shards, or more, have asynchronous calls and finalisers in their first stage. */
export const ASYNC_SHARDS = 3;

/** Pipelines with so many shards look a znode up whose version their commits check, and have a source without an end. */
export const FOLLOWING_SHARDS = 4;

/** Pipelines with so many shards have a stage more, that keeps elements in state and gives them when a timer fires. */
export const STATEFUL_SHARDS = 4;

/** How long it keeps them, in ms of event time. */
const KEPT_MS = 200;

/**
 * Changes in windows of one second, summarised for each znode, as znodes and maybe as text: two stages to four, and
 * those of the extras.
 */
export function summaryPipeline(
  shards: number,
  probe: Probe,
  { hasFiles, isChanged, hasRecords }: Extras = { hasFiles: true, isChanged: false, hasRecords: false },
): PipelineDefinition {
  return definePipeline({
    name: "summary",
    shards,
    failures: { maxAttempts: 2 },
    build: (root) => {
      const arrived = root.apply(readZnodeChanges(SOURCE)).map((change) => {
        const { path, kind, text, mzxid, missed, missedAtLeast } = change;
        const order = orderOf(mzxid);
        const seen: SeenChange[] = [{ order, kind, value: text, arrival: probe.arrive(change) }];
        return { path, seen, missed, atLeast: missedAtLeast };
      });
      const answered = shards < ASYNC_SHARDS ? arrived : arrived.apply(answering(probe));
      const windowed = answered.apply(beam.windowInto<Counted, beam.IntervalWindow>(beam.fixedWindows(1)));
      const summaries = (shards < STATEFUL_SHARDS ? windowed : windowed.apply(keeping()))
        .apply(
          beam
            .groupBy("path")
            .combining("seen", (a: SeenChange[], b: SeenChange[]) => [...a, ...b], "seen")
            .combining("missed", (a: number, b: number) => a + b, "missed")
            .combining("atLeast", (a: boolean, b: boolean) => a || b, "atLeast"),
        )
        .map(
          ({ path, seen, missed, atLeast }, { window }) => {
            const start = (window.lookup() as beam.IntervalWindow).start.toNumber();
            const summary = { path, seen, missed, atLeast };
            probe.emit(summary);
            return { start, summary };
          },
          { window: beam.windowParam() },
        );
      summaries.apply(
        writeToZnodes(({ start, summary }) => ({
          path: `${RESULTS}/${start}/${encodeURIComponent(summary.path)}`,
          data: JSON.stringify(summary),
        })),
      );
      if (isChanged) summaries.apply(copying());
      if (hasFiles) summaries.apply(writeToText(`${RESULTS.slice(1)}/part`, { suffix: ".jsonl" }));
      if (hasRecords) readRecords(root);
      if (shards < FOLLOWING_SHARDS) return;
      readTicks(root, () => probe.elapsedMs());
      summaries
        .map(
          ({ start, summary }, { mark }) => {
            const path = `${MARKS}/${start}-${encodeURIComponent(summary.path)}`;
            return { path, data: mark.lookup() };
          },
          { mark: readZnodeLatest(MARK, { checkVersion: true }) },
        )
        .apply(writeToZnodes((write) => write));
    },
  });
}

interface WindowedSummary {
  readonly start: number;
  readonly summary: Summary;
}

/** What the changed code does beside: a stage of its own, which begins with the update. */
function copying(): beam.PTransform<beam.PCollection<WindowedSummary>, void> {
  return beam.withName("copies", (summaries: beam.PCollection<WindowedSummary>) => {
    summaries
      .apply(
        statefulParDo((element: WindowedSummary) => element.summary.path, {
          state: { count: valueState(0) },
          process(element: WindowedSummary, { state }) {
            state.count.write(state.count.read() + 1);
            return [{ ...element, number: state.count.read() }];
          },
        }),
      )
      .apply(
        writeToZnodes(({ start, summary, number }) => ({
          path: `${COPIES}/${start}-${encodeURIComponent(summary.path)}-${number}`,
          data: JSON.stringify(summary),
        })),
      );
  });
}

/** An element on its way to its summary. */
interface Counted {
  readonly path: string;
  readonly seen: SeenChange[];
  readonly missed: number;
  readonly atLeast: boolean;
}

/** Elements of a znode wait in a bag for a timer; what is counted in state tells whether one was lost or came twice. */
function keeping(): beam.PTransform<beam.PCollection<Counted>, beam.PCollection<Counted>> {
  return statefulParDo((element: Counted) => element.path, {
    state: { waiting: bagState<Counted>(), count: valueState(0), orders: mapState<string, number>() },
    timers: { flush: eventTimer() },
    process(element: Counted, { state, timers }) {
      const { order } = element.seen[0]!;
      if (state.orders.has(order)) throw new Error(`${element.path}: ${order} came twice`);
      if (state.waiting.isEmpty()) timers.flush.setAfter(KEPT_MS);
      state.orders.set(order, state.count.read());
      state.count.write(state.count.read() + 1);
      state.waiting.add(element);
    },
    onTimer: {
      flush({ state }) {
        const waiting = [...state.waiting.read()];
        state.waiting.clear();
        return waiting;
      },
    },
    onWindowExpiration({ key, state }) {
      if (!state.waiting.isEmpty() || state.orders.keys().length !== state.count.read())
        throw new Error(`${key}: the state of a window that ends is not whole`);
    },
  });
}

/** Elements wait for an answer, a few at a time, and a finaliser hears of them. */
function answering<T extends { readonly path: string; readonly seen: readonly SeenChange[] }>(
  probe: Probe,
): beam.PTransform<beam.PCollection<T>, beam.PCollection<T>> {
  const done = bundleFinalizer((elements: readonly FinalizedElement[]) => probe.finalize(elements));
  return mapAsync(
    async (element: T, { context }) => {
      await probe.answer();
      context.done.afterCommit({ path: element.path, order: element.seen[0]!.order });
      return element;
    },
    { concurrency: 4, context: { done } },
  );
}
