import {
  GlobalWindow,
  IntervalWindow,
  type Metric,
  type PaneInfo,
  ParDoParam,
  Timing,
  type Window,
} from "apache-beam";
import type { Pane } from "../engine/panes";
import type { Window as EngineWindow } from "../engine/windows";
import { SdkLong } from "../graph/window-fn";
import type { BundleMetrics } from "./metrics";

const COUNTER_URN = "beam:metric:user:sum_int64:v1";

/** The element that a DoFn is at, for its context parameters. Changed in place, once for each element. */
export interface Place {
  timestampMs: number;
  window: EngineWindow;
  pane: Pane;
}

/**
 * The context that a DoFn sees: what the user passed, with window, timestamp, pane info and metrics bound to this
 * bundle. Each bundle has its own copy, so bundles that run side by side do not see each other's element.
 */
export function bindContext(
  context: unknown,
  place: Place,
  transform: string,
  metrics: BundleMetrics,
): unknown {
  if (typeof context !== "object" || context === null) return context;
  const bound: Record<string, unknown> = {};
  // The SDK hands on a copy whose prototype is what the user passed, so inherited properties count.
  for (const key in context) {
    const value = (context as Record<string, unknown>)[key];
    bound[key] = value instanceof ParDoParam ? bindParam(value, place, transform, metrics) : value;
  }
  return bound;
}

/** Whether a context has parameters that follow the element. */
export function followsElement(context: unknown): boolean {
  if (typeof context !== "object" || context === null) return false;
  for (const key in context) if ((context as Record<string, unknown>)[key] instanceof ParDoParam) return true;
  return false;
}

function bindParam(param: ParDoParam, place: Place, transform: string, metrics: BundleMetrics): ParDoParam {
  const provider = {
    lookup: () => lookup(param.parDoParamName, place),
    update: (metric: Metric<number>, value: number) => {
      if (metric.metricType === COUNTER_URN) metrics.increment(transform, metric.name, value);
      else metrics.record(transform, metric.name, value);
    },
  };
  return Object.assign(Object.create(param) as ParDoParam, { provider });
}

function lookup(name: string, place: Place): unknown {
  if (name === "window") return toSdkWindow(place.window);
  if (name === "timestamp") return SdkLong.fromNumber(place.timestampMs);
  return toSdkPane(place.pane);
}

export function toSdkWindow(window: EngineWindow): Window {
  if (window.kind === "global") return new GlobalWindow();
  return new IntervalWindow(SdkLong.fromNumber(window.startMs), SdkLong.fromNumber(window.endMs));
}

function toSdkPane(pane: Pane): PaneInfo {
  const { timing, index, nonSpeculativeIndex, isFirst, isLast } = pane;
  return { timing: Timing[timing], index, onTimeIndex: nonSpeculativeIndex, isFirst, isLast };
}
