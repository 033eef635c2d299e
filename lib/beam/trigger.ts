import * as runnerApi from "apache-beam/proto/beam_runner_api";

/** Builders of the SDK's triggers, which has none of its own. Beam model: `Trigger` in beam_runner_api.proto. */
export type Trigger = runnerApi.Trigger;

export interface AfterWatermarkOptions {
  /** Fires again and again until the end of the window. Default: no early panes. */
  readonly early?: Trigger;
  /** Fires again and again after the end of the window. Default: no late panes; late elements are dropped. */
  readonly late?: Trigger;
}

export interface ProcessingTimeOptions {
  /** From the first element of a pane on. Default: 0. */
  readonly delaySeconds?: number;
  /** After the delay, on to the next multiple of this period. Default: none. */
  readonly alignToSeconds?: number;
  /** Moves the multiples. Default: 0. */
  readonly alignOffsetSeconds?: number;
}

export const trigger = {
  /** At the end of the window, then for each late element: Beam's default. */
  default: (): Trigger => make({ oneofKind: "default", default: {} }),
  /** For each element. */
  always: (): Trigger => make({ oneofKind: "always", always: {} }),
  /** Only what is left when the window expires. */
  never: (): Trigger => make({ oneofKind: "never", never: {} }),

  /** When the watermark passes the end of the window; before and after it as the options say. */
  afterWatermark({ early, late }: AfterWatermarkOptions = {}): Trigger {
    const afterEndOfWindow = {
      ...(early === undefined ? {} : { earlyFirings: early }),
      ...(late === undefined ? {} : { lateFirings: late }),
    };
    return make({ oneofKind: "afterEndOfWindow", afterEndOfWindow });
  },

  /** @throws RangeError if `count` is no whole number from 1. */
  afterCount(count: number): Trigger {
    if (!Number.isInteger(count) || count < 1 || count >= 2 ** 31)
      throw new RangeError(
        `trigger.afterCount: the count must be a whole number from 1, it is ${String(count)}`,
      );
    return make({ oneofKind: "elementCount", elementCount: { elementCount: count } });
  },

  /**
   * A while after a pane's first element, by the clock of whoever runs it.
   *
   * @throws RangeError if the delay is negative, or the period is below a millisecond.
   */
  afterProcessingTime(options: ProcessingTimeOptions = {}): Trigger {
    const { delaySeconds = 0, alignToSeconds, alignOffsetSeconds = 0 } = options;
    const transforms: runnerApi.TimestampTransform[] = [];
    if (delaySeconds !== 0 || alignToSeconds === undefined) {
      const delayMillis = millis("delaySeconds", delaySeconds, 0);
      transforms.push({ timestampTransform: { oneofKind: "delay", delay: { delayMillis } } });
    }
    if (alignToSeconds !== undefined) {
      const period = millis("alignToSeconds", alignToSeconds, 1);
      const offset = millis("alignOffsetSeconds", alignOffsetSeconds, -Number.MAX_SAFE_INTEGER);
      transforms.push({ timestampTransform: { oneofKind: "alignTo", alignTo: { period, offset } } });
    }
    return make({
      oneofKind: "afterProcessingTime",
      afterProcessingTime: { timestampTransforms: transforms },
    });
  },

  /** As soon as everything upstream has come as far as the clock was at a pane's first element. */
  afterSynchronizedProcessingTime: (): Trigger =>
    make({ oneofKind: "afterSynchronizedProcessingTime", afterSynchronizedProcessingTime: {} }),

  /** Once all are ready. */
  afterAll: (...subtriggers: Trigger[]): Trigger =>
    make({ oneofKind: "afterAll", afterAll: { subtriggers: several("afterAll", subtriggers) } }),

  /** Once any is ready. */
  afterAny: (...subtriggers: Trigger[]): Trigger =>
    make({ oneofKind: "afterAny", afterAny: { subtriggers: several("afterAny", subtriggers) } }),

  /** One after the other. */
  afterEach: (...subtriggers: Trigger[]): Trigger =>
    make({ oneofKind: "afterEach", afterEach: { subtriggers: several("afterEach", subtriggers) } }),

  /** As `main`, but finishes when `until` fires. */
  orFinally: (main: Trigger, until: Trigger): Trigger =>
    make({ oneofKind: "orFinally", orFinally: { main, finally: until } }),

  /** Begins again each time it has finished. */
  repeatedly: (subtrigger: Trigger): Trigger => make({ oneofKind: "repeat", repeat: { subtrigger } }),
} as const;

export interface WindowingOptions {
  /** Default: `trigger.default()`. */
  readonly trigger?: Trigger;
  /** Whether a pane has the elements since the last one, or all of its window so far. Default: "discarding". */
  readonly accumulation?: "discarding" | "accumulating";
  /** How long after its end a window still takes elements. Default: 0. */
  readonly allowedLatenessSeconds?: number;
  /** The event time of a pane, which the output watermark waits for. Default: "end-of-window". */
  readonly outputTime?: "end-of-window" | "earliest" | "latest";
  /** Whether the pane at the end of the window comes even if nothing is new. Default: "always". */
  readonly onTime?: "always" | "if-nonempty";
  /** Whether a last pane comes when the window expires, even if nothing is new. Default: "if-nonempty". */
  readonly closing?: "always" | "if-nonempty";
}

/**
 * The second argument of `windowInto`:
 * `windowInto(fixedWindows(60), windowingStrategy({ trigger: trigger.afterWatermark({ early: trigger.afterCount(10) }) }))`.
 *
 * @throws TypeError or RangeError if an option has the wrong value.
 */
export function windowingStrategy(options: WindowingOptions = {}): runnerApi.WindowingStrategy {
  const {
    trigger: when = trigger.default(),
    accumulation = "discarding",
    allowedLatenessSeconds = 0,
    outputTime = "end-of-window",
    onTime = "always",
    closing = "if-nonempty",
  } = options;
  return runnerApi.WindowingStrategy.create({
    trigger: when,
    accumulationMode: choice("accumulation", accumulation, {
      discarding: runnerApi.AccumulationMode_Enum.DISCARDING,
      accumulating: runnerApi.AccumulationMode_Enum.ACCUMULATING,
    }),
    allowedLateness: millis("allowedLatenessSeconds", allowedLatenessSeconds, 0),
    outputTime: choice("outputTime", outputTime, {
      "end-of-window": runnerApi.OutputTime_Enum.END_OF_WINDOW,
      earliest: runnerApi.OutputTime_Enum.EARLIEST_IN_PANE,
      latest: runnerApi.OutputTime_Enum.LATEST_IN_PANE,
    }),
    onTimeBehavior: choice("onTime", onTime, {
      always: runnerApi.OnTimeBehavior_Enum.FIRE_ALWAYS,
      "if-nonempty": runnerApi.OnTimeBehavior_Enum.FIRE_IF_NONEMPTY,
    }),
    closingBehavior: choice("closing", closing, {
      always: runnerApi.ClosingBehavior_Enum.EMIT_ALWAYS,
      "if-nonempty": runnerApi.ClosingBehavior_Enum.EMIT_IF_NONEMPTY,
    }),
  });
}

function make(of: Trigger["trigger"]): Trigger {
  return runnerApi.Trigger.create({ trigger: of });
}

function several(name: string, triggers: readonly Trigger[]): Trigger[] {
  if (triggers.length > 0) return [...triggers];
  throw new TypeError(`trigger.${name} needs at least one trigger`);
}

function millis(name: string, seconds: number, least: number): bigint {
  const value = Math.round(seconds * 1000);
  if (Number.isSafeInteger(value) && value >= least) return BigInt(value);
  throw new RangeError(
    `${name} must be a number of seconds of at least ${least} ms, it is ${String(seconds)}`,
  );
}

function choice<T>(name: string, value: string, choices: Record<string, T>): T {
  if (Object.hasOwn(choices, value)) return choices[value]!;
  const names = Object.keys(choices).join(", ");
  throw new TypeError(`${name} must be one of ${names}; it is ${JSON.stringify(value)}`);
}
