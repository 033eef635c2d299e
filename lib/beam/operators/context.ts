import {
  GlobalWindow,
  IntervalWindow,
  type Metric,
  type PaneInfo,
  ParDoParam,
  type SideInputParam,
  Timing,
  type Window,
} from "apache-beam";
import { NO_FIRING, type Pane } from "../engine/panes";
import { type Window as EngineWindow, GLOBAL_WINDOW } from "../engine/windows";
import { BundleFinalizer } from "../finalizer";
import { SdkLong } from "../graph/window-fn";
import type { ZnodeParam } from "../znode-param";
import type { BundleZnodes } from "./bundle-znodes";
import type { Finalizations } from "./finalizations";
import type { BundleMetrics } from "./metrics";
import type { Views } from "./side-inputs";

/** What context parameters reach beside their element. */
export interface Reach {
  readonly metrics: BundleMetrics;
  readonly finalizations: Finalizations;
  readonly znodes: BundleZnodes;
  /** Of a stage that begins with a transform with side inputs. */
  readonly views: Views | undefined;
}

/** As our own side inputs have it; the SDK's look at the values alone. */
interface ViewAccessor {
  toValue(values: readonly unknown[], sideInputId: string): unknown;
}

const COUNTER_URN = "beam:metric:user:sum_int64:v1";

/**
 * The element that a DoFn is at, for its context parameters, with what else they reach. Changed in place, once for
 * each element.
 */
export class Place {
  private timestampMs = 0;
  private window: EngineWindow = GLOBAL_WINDOW;
  private pane: Pane = NO_FIRING;

  constructor(
    private readonly transform: string,
    private readonly reach: Reach,
  ) {}

  /** For an element whose turn goes on while others have theirs. */
  fork(): Place {
    return new Place(this.transform, this.reach);
  }

  moveTo(timestampMs: number, window: EngineWindow, pane: Pane): void {
    this.timestampMs = timestampMs;
    this.window = window;
    this.pane = pane;
  }

  lookup(param: ParDoParam): unknown {
    switch (param.parDoParamName) {
      case "window":
        return toSdkWindow(this.window);
      case "timestamp":
        return SdkLong.fromNumber(this.timestampMs);
      case "sideInput": {
        const { sideInputId, accessor } = param as SideInputParam<unknown, unknown, unknown>;
        const values = this.reach.views!.lookup(sideInputId, this.window);
        return (accessor as ViewAccessor).toValue(values, sideInputId);
      }
      case "znode":
        return this.reach.znodes.lookup(param as ZnodeParam<unknown>);
      default:
        return toSdkPane(this.pane);
    }
  }

  /** A side input as it is now: it may change before a call that is under way looks at it. */
  settle(param: ParDoParam, key: string): ParDoParam {
    if (param.parDoParamName !== "sideInput") return bindParam(param, this, key);
    const value = this.lookup(param);
    return Object.assign(Object.create(param) as ParDoParam, { provider: { lookup: () => value } });
  }

  update(param: Metric<number> | BundleFinalizer<unknown>, value: unknown): void {
    if (param instanceof BundleFinalizer)
      this.reach.finalizations.add(this.transform, param.contextKey, value);
    else this.count(param, value as number);
  }

  private count({ metricType, name }: Metric<number>, value: number): void {
    const { metrics } = this.reach;
    if (metricType === COUNTER_URN) metrics.increment(this.transform, name, value);
    else metrics.record(this.transform, name, value);
  }
}

/**
 * The context that a DoFn sees: what the user passed, with window, timestamp, pane info and metrics bound to this
 * bundle. Each bundle has its own copy, so bundles that run side by side do not see each other's element.
 */
export function bindContext(
  context: unknown,
  place: Place,
  bind: (param: ParDoParam, key: string) => ParDoParam = (param, key) => bindParam(param, place, key),
): unknown {
  if (typeof context !== "object" || context === null) return context;
  const bound: Record<string, unknown> = {};
  // The SDK hands on a copy whose prototype is what the user passed, so inherited properties count.
  for (const key in context) {
    const value = (context as Record<string, unknown>)[key];
    bound[key] = value instanceof ParDoParam ? bind(value, key) : value;
  }
  return bound;
}

/** Whether a context has parameters that follow the element. */
export function followsElement(context: unknown): boolean {
  if (typeof context !== "object" || context === null) return false;
  for (const key in context) if ((context as Record<string, unknown>)[key] instanceof ParDoParam) return true;
  return false;
}

function bindParam(param: ParDoParam, place: Place, key: string): ParDoParam {
  const bound = Object.assign(Object.create(param) as ParDoParam, { provider: place });
  return param instanceof BundleFinalizer ? Object.assign(bound, { contextKey: key }) : bound;
}

export function toSdkWindow(window: EngineWindow): Window {
  if (window.kind === "global") return new GlobalWindow();
  return new IntervalWindow(SdkLong.fromNumber(window.startMs), SdkLong.fromNumber(window.endMs));
}

function toSdkPane(pane: Pane): PaneInfo {
  const { timing, index, nonSpeculativeIndex, isFirst, isLast } = pane;
  return { timing: Timing[timing], index, onTimeIndex: nonSpeculativeIndex, isFirst, isLast };
}
