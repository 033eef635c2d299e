import * as beam from "apache-beam";
import type { SinkEffect } from "../../lib/beam/api";
import type { Trigger as EngineTrigger } from "../../lib/beam/engine/trigger";
import type { Windowing } from "../../lib/beam/engine/windowing";
import type { WindowFn } from "../../lib/beam/engine/windows";
import { compilePipeline } from "../../lib/beam/pipeline";
import {
  calendarDays,
  fixedWindows,
  listSideInput,
  mapSideInput,
  multimapSideInput,
  sessions,
  slidingWindows,
  splittableRead,
  statefulParDo,
  type Trigger,
  trigger,
  windowingStrategy,
} from "../../lib/index";
import { ManualClock } from "../../lib/testing";
import { at, collect, readTest } from "./collect";
import { feedSource } from "./feed-source";
import {
  type BundleShape,
  runInMemoryAsync,
  type TimelineStep,
  watermarksAreLearnedAtOnce,
} from "./memory-runner";
import type { Step, Transcript } from "./transcript-file";
import { firingAttributes, Outputs, sorted, type WindowBounds } from "./transcript-panes";
import type { Transform } from "./transcript-transforms";

type Keyed = beam.KV<string, unknown>;
type Read = Extract<Transform, { kind: "read" }>;
type Row = Record<string, unknown>;

/**
 * Runs a transcript of a pipeline; undefined if all is as expected, else what is not. What comes is compared at each
 * `expect`, and nothing else may have come by then; only at the end where it depends on other things when a shard learns
 * of a watermark.
 */
export async function runPipelineTranscript(
  transcript: Transcript,
  shape: BundleShape,
): Promise<string | undefined> {
  const clock = new ManualClock();
  const pipeline = compilePipeline({
    name: "transcript",
    build: (root) => build(root, transcript, clock),
    shards: 1,
  });
  const comparison = new Comparison();
  const timeline: TimelineStep[] = [];
  const { steps } = transcript;
  const end = steps.findIndex(({ kind }) => kind === "end");
  const [before, after] = end === -1 ? [steps, []] : [steps.slice(0, end), steps.slice(end + 1)];
  for (const [index, step] of before.entries()) {
    timeline.push({ observe: (effects) => comparison.meets(step, index, effects) });
    timeline.push(...played(step, clock));
  }
  timeline.push({ observe: (effects) => end !== -1 && comparison.meets({ kind: "end" }, end, effects) });
  const result = await runInMemoryAsync(pipeline, timeline, { shape, clock });
  for (const [index, step] of after.entries()) comparison.meets(step, end + 1 + index, result.effects);
  comparison.ends(result.effects);
  const { dropped } = transcript;
  if (dropped !== undefined && dropped !== result.droppedLate)
    return comparison.problem ?? `${result.droppedLate} elements were dropped, not ${dropped}`;
  return comparison.problem;
}

/** What a transcript expects, beside what has come. */
class Comparison {
  problem: string | undefined;
  private readonly output = new Outputs();
  private readonly expected: Row[] = [];
  private seen = 0;

  meets(step: Step, index: number, effects: readonly SinkEffect[]): void {
    if (!watermarksAreLearnedAtOnce) {
      if (step.kind === "expect") this.expected.push(...step.panes);
      return;
    }
    this.take(effects);
    const problem = step.kind === "expect" ? this.output.expect(step.panes) : this.output.unexpected();
    if (problem !== undefined) this.problem ??= `step ${index + 1} (${step.kind}): ${problem}`;
  }

  ends(effects: readonly SinkEffect[]): void {
    this.take(effects);
    const problem = this.output.expect(this.expected) ?? this.output.unexpected();
    if (problem !== undefined) this.problem ??= `at the end: ${problem}`;
  }

  private take(effects: readonly SinkEffect[]): void {
    this.output.add(...effects.slice(this.seen).map(({ payload }) => payload as Row));
    this.seen = effects.length;
  }
}

function played(step: Step, clock: ManualClock): TimelineStep[] {
  switch (step.kind) {
    case "input":
    case "side_input": {
      const steps = step.elements.map(({ key, value, timestampMs }) => at(timestampMs, { key, value }));
      return [{ source: step.kind, steps }];
    }
    case "watermark":
      return [{ source: "input", steps: [{ watermarkMs: step.timeMs }] }];
    case "side_watermark":
      return [{ source: "side_input", steps: [{ watermarkMs: step.timeMs }] }];
    case "clock":
      // The sources look at this clock, wherever the pipeline runs.
      return [
        { observe: () => clock.advance(Math.max(0, step.timeMs - clock.now())) },
        { clockMs: step.timeMs },
      ];
    default:
      return [];
  }
}

function build(root: beam.Root, transcript: Transcript, clock: ManualClock): void {
  const { group, windowing } = transcript;
  const given = transformed(root, transcript.transform!, windowing, clock);
  if (group === undefined) {
    given.map(described, CONTEXT).apply(collect("out"));
    return;
  }
  given
    .apply(into(group))
    .apply(beam.groupBy("key"))
    .map(({ key, value }) => ({ key, values: sorted([...value].map((each) => (each as Keyed).value)) }))
    .map(described, CONTEXT)
    .apply(collect("out"));
}

const CONTEXT = {
  window: beam.windowParam(),
  timestamp: beam.timestampParam(),
  pane: beam.paneInfoParam(),
};

/** An element as transcripts name its attributes. */
function described(element: object, { window, timestamp, pane }: typeof CONTEXT): Row {
  const firing = pane.lookup();
  const attributes = firingAttributes(
    firing,
    firing.onTimeIndex,
    timestamp.lookup().toNumber(),
    boundsOf(window.lookup()),
  );
  return { ...element, ...attributes };
}

function boundsOf(window: beam.Window): WindowBounds {
  if (!(window instanceof beam.IntervalWindow)) return undefined;
  return [window.start.toNumber(), window.end.toNumber() - 1];
}

function transformed(
  root: beam.Root,
  transform: Transform,
  windowing: Windowing,
  clock: ManualClock,
): beam.PCollection<Keyed> {
  if (transform.kind === "read")
    return root
      .apply(beam.create([Object.keys(transform.feeds).join()]))
      .apply(splittableRead(sourceOf(transform, clock)))
      .map((value) => ({ key: "key", value }) as Keyed)
      .apply(into(windowing));
  const input = root.apply(readTest<Keyed>("input")).apply(into(windowing));
  if (transform.kind === "stateful") return input.apply(statefulParDo(transform.doFn)) as typeof input;
  const { windowFn, trigger } = transform.windowing;
  // In the global window nothing is ready before the end, unless there are panes.
  const isBounded = windowFn.kind === "global" && trigger.kind === "default";
  const side = root.apply(readTest<Keyed>("side_input", isBounded)).apply(into(transform.windowing));
  const view = viewOf(transform, side);
  const look = ({ key, value }: Keyed, { side }: { side: { lookup(): unknown } }) => ({
    ...{ key, value },
    side: seen(side.lookup()),
  });
  return input.map(look, { side: view });
}

/** Without the order, which views do not have. */
function seen(looked: unknown): unknown {
  if (typeof looked !== "object" || looked === null) return looked;
  const values = [...(looked as Iterable<unknown>)];
  return sorted(values.map((value) => (Array.isArray(value) ? value.map(seen) : value)));
}

function viewOf(
  { view, fallback }: Extract<Transform, { kind: "side_input" }>,
  side: beam.PCollection<Keyed>,
  // biome-ignore lint/suspicious/noExplicitAny: the views differ in what they give.
): any {
  const values = side.map(({ value }) => value);
  switch (view) {
    case "iterable":
      return beam.iterableSideInput(values);
    case "singleton":
      return fallback === undefined
        ? beam.singletonSideInput(values)
        : beam.singletonSideInput(values, fallback);
    case "list":
      return listSideInput(values);
    case "map":
      return mapSideInput(side);
    case "multimap":
      return multimapSideInput(side);
  }
}

function sourceOf({ feeds, watermark, resumeAfterMs, endsAfter, truncatesToRest }: Read, clock: ManualClock) {
  return feedSource(feeds, {
    now: () => clock.now(),
    everyMs: resumeAfterMs,
    watermark,
    ...(endsAfter === undefined ? {} : { endsAfter }),
    ...(truncatesToRest ? { truncate: (rest) => rest } : {}),
  });
}

function into<T>({
  windowFn,
  ...more
}: Windowing): beam.PTransform<beam.PCollection<T>, beam.PCollection<T>> {
  const strategy = windowingStrategy({
    trigger: triggerOf(more.trigger),
    accumulation: more.accumulating ? "accumulating" : "discarding",
    allowedLatenessSeconds: more.allowedLatenessMs / 1000,
    outputTime:
      more.outputTime === "END_OF_WINDOW"
        ? "end-of-window"
        : more.outputTime === "EARLIEST"
          ? "earliest"
          : "latest",
    onTime: more.emptyOnTimePanes ? "always" : "if-nonempty",
    closing: more.emptyFinalPanes ? "always" : "if-nonempty",
  });
  return beam.windowInto<T, beam.IntervalWindow>(windowFnOf(windowFn), strategy);
}

function windowFnOf(windowFn: WindowFn): beam.WindowFn<beam.IntervalWindow> {
  switch (windowFn.kind) {
    case "global":
      return beam.globalWindows() as unknown as beam.WindowFn<beam.IntervalWindow>;
    case "fixed":
      return fixedWindows(windowFn.sizeMs / 1000, windowFn.offsetMs / 1000);
    case "sliding":
      return slidingWindows(windowFn.sizeMs / 1000, windowFn.periodMs / 1000, windowFn.offsetMs / 1000);
    case "sessions":
      return sessions(windowFn.gapMs / 1000);
    case "calendar":
      if (windowFn.unit === "days") return calendarDays(windowFn.count, { timeZone: windowFn.timeZone });
  }
  throw new Error(`a pipeline's transcript has no windows of the kind ${windowFn.kind}`);
}

function triggerOf(of: EngineTrigger): Trigger {
  switch (of.kind) {
    case "default":
    case "always":
    case "never":
      return trigger[of.kind]();
    case "elementCount":
      return trigger.afterCount(of.count);
    case "repeatedly":
      return trigger.repeatedly(triggerOf(of.part));
    case "afterEndOfWindow":
      return trigger.afterWatermark({
        ...(of.early ? { early: triggerOf(of.early) } : {}),
        ...(of.late ? { late: triggerOf(of.late) } : {}),
      });
    default:
      throw new Error(`a pipeline's transcript has no trigger of the kind ${of.kind}`);
  }
}
