import * as runnerApi from "apache-beam/proto/beam_runner_api";
import { describeTrigger, type TimestampTransform, type Trigger } from "../engine/trigger";
import { defaultWindowing, type Windowing } from "../engine/windowing";
import type { WindowFn } from "../engine/windows";
import { describeWindowFn, windowFnSettings } from "./window-fn";

const { ACCUMULATING, RETRACTING } = runnerApi.AccumulationMode_Enum;

/** The engine's form of the SDK's windowing strategy; what can't be run is added to `problems`. */
export function toWindowing(
  strategy: runnerApi.WindowingStrategy,
  windowFn: WindowFn,
  problems: string[],
): Windowing {
  const allowedLatenessMs = Number(strategy.allowedLateness);
  if (!(allowedLatenessMs >= 0)) problems.push(`an allowed lateness of ${allowedLatenessMs} ms is not one`);
  if (strategy.accumulationMode === RETRACTING) problems.push("retracting panes are not supported");
  return {
    ...defaultWindowing(windowFn),
    trigger: toTrigger(strategy.trigger, problems),
    accumulating: strategy.accumulationMode === ACCUMULATING,
    allowedLatenessMs,
    outputTime: OUTPUT_TIMES[strategy.outputTime] ?? "END_OF_WINDOW",
    emptyOnTimePanes: strategy.onTimeBehavior !== runnerApi.OnTimeBehavior_Enum.FIRE_IF_NONEMPTY,
    emptyFinalPanes: strategy.closingBehavior === runnerApi.ClosingBehavior_Enum.EMIT_ALWAYS,
  };
}

const OUTPUT_TIMES: Partial<Record<runnerApi.OutputTime_Enum, Windowing["outputTime"]>> = {
  [runnerApi.OutputTime_Enum.LATEST_IN_PANE]: "LATEST",
  [runnerApi.OutputTime_Enum.EARLIEST_IN_PANE]: "EARLIEST",
};

/** For messages; collections with equal descriptions may be flattened. */
export function describeWindowing({ windowFn, trigger }: Windowing): string {
  const windows = describeWindowFn(windowFn);
  return trigger.kind === "default" ? windows : `${windows} with the trigger ${describeTrigger(trigger)}`;
}

/** For the fingerprint: what is as by default is left out. */
export function windowingSettings(windowing: Windowing): unknown {
  const settings = windowFnSettings(windowing.windowFn);
  const defaults = defaultWindowing(windowing.windowFn);
  const { windowFn: _windowFn, ...rest } = windowing;
  const differing = Object.entries(rest).filter(
    ([name, value]) => JSON.stringify(value) !== JSON.stringify(defaults[name as keyof Windowing]),
  );
  return differing.length === 0 ? settings : { windowFn: settings, ...Object.fromEntries(differing) };
}

function toTrigger(proto: runnerApi.Trigger | undefined, problems: string[]): Trigger {
  if (proto === undefined) return { kind: "default" };
  const { trigger } = proto;
  switch (trigger.oneofKind) {
    case "default":
    case "always":
    case "never":
    case "afterSynchronizedProcessingTime":
      return { kind: trigger.oneofKind };
    case "elementCount": {
      const { elementCount: count } = trigger.elementCount;
      if (!(count >= 1)) problems.push(`the trigger elementCount needs at least 1 element, not ${count}`);
      return { kind: "elementCount", count };
    }
    case "afterProcessingTime": {
      const { timestampTransforms } = trigger.afterProcessingTime;
      return {
        kind: "afterProcessingTime",
        transforms: timestampTransforms.map((t) => toTransform(t, problems)),
      };
    }
    case "afterEndOfWindow": {
      const { earlyFirings, lateFirings } = trigger.afterEndOfWindow;
      return {
        kind: "afterEndOfWindow",
        ...(earlyFirings === undefined ? {} : { early: toTrigger(earlyFirings, problems) }),
        ...(lateFirings === undefined ? {} : { late: toTrigger(lateFirings, problems) }),
      };
    }
    case "afterAll":
      return { kind: "afterAll", parts: toParts("afterAll", trigger.afterAll.subtriggers, problems) };
    case "afterAny":
      return { kind: "afterAny", parts: toParts("afterAny", trigger.afterAny.subtriggers, problems) };
    case "afterEach":
      return { kind: "afterEach", parts: toParts("afterEach", trigger.afterEach.subtriggers, problems) };
    case "orFinally": {
      const { main, finally: until } = trigger.orFinally;
      return {
        kind: "orFinally",
        main: toPart("orFinally", main, problems),
        until: toPart("orFinally", until, problems),
      };
    }
    case "repeat":
      return { kind: "repeatedly", part: toPart("repeat", trigger.repeat.subtrigger, problems) };
    default:
      problems.push(`the trigger "${String(trigger.oneofKind)}" is not supported`);
      return { kind: "default" };
  }
}

function toParts(kind: string, parts: readonly runnerApi.Trigger[], problems: string[]): Trigger[] {
  if (parts.length === 0) problems.push(`the trigger ${kind} has no parts`);
  return parts.map((part) => toTrigger(part, problems));
}

function toPart(kind: string, part: runnerApi.Trigger | undefined, problems: string[]): Trigger {
  if (part === undefined) problems.push(`the trigger ${kind} lacks a part`);
  return toTrigger(part, problems);
}

function toTransform(
  { timestampTransform: transform }: runnerApi.TimestampTransform,
  problems: string[],
): TimestampTransform {
  if (transform.oneofKind === "delay") {
    const delayMs = Number(transform.delay.delayMillis);
    if (delayMs < 0) problems.push(`the trigger afterProcessingTime has a delay of ${delayMs} ms`);
    return { kind: "delay", delayMs };
  }
  const { period, offset } =
    transform.oneofKind === "alignTo" ? transform.alignTo : { period: 0n, offset: 0n };
  if (period <= 0n) problems.push("the trigger afterProcessingTime aligns to a period of less than 1 ms");
  return { kind: "alignTo", periodMs: Number(period), offsetMs: Number(offset) };
}
