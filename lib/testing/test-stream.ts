import type { PCollection, PTransform, Root } from "apache-beam";
import { readPrimitive } from "../beam/primitives";
import type { SourceStep } from "./memory-run";

/**
 * What a source gives in a test: elements with their event times, and the advances of the watermark and of processing
 * time between them. Everything that is due is processed at each advance. After the last step the watermark goes to
 * infinity. Beam model: `TestStream`.
 */
export class TestStream<T> {
  readonly steps: SourceStep[] = [];
  private nowMs: number;

  /** @param nowMs processing time at the beginning. Default: 0. */
  constructor(nowMs = 0) {
    this.nowMs = nowMs;
  }

  /** Elements of one event time, in milliseconds. */
  at(timestampMs: number, ...elements: readonly T[]): this {
    for (const value of elements) this.steps.push({ value, timestampMs });
    return this;
  }

  /** Nothing earlier comes any more: what comes all the same is late. */
  advanceWatermarkTo(watermarkMs: number): this {
    this.steps.push({ watermarkMs });
    return this;
  }

  /** By so many milliseconds; triggers with delays count from when their elements came. */
  advanceProcessingTime(ms: number): this {
    if (!(ms > 0)) throw new RangeError(`processing time advances by more than 0 ms; it was given ${ms}`);
    // What came before the first advance came at the time of the beginning.
    if (!this.steps.some((step) => "clockMs" in step)) this.steps.unshift({ clockMs: this.nowMs });
    this.nowMs += ms;
    this.steps.push({ clockMs: this.nowMs });
    return this;
  }

  /** What a followed znode holds from now on (`readZnodeLatest`, `runInference`); undefined deletes it. */
  setZnode(path: string, value: string | Uint8Array | undefined): this {
    this.steps.push({ znode: path, holds: value });
    return this;
  }
}

/** A source that gives what a stream says: for `runTest`. */
export function readTestStream<T>(stream: TestStream<T>): PTransform<Root, PCollection<T>> {
  return readPrimitive<T>("readTestStream", {
    kind: "znode-changes",
    config: { testStream: registerStream(stream) },
    bounded: false,
  });
}

let streams: TestStream<unknown>[] | undefined;

function registerStream(stream: TestStream<never>): number {
  if (streams === undefined) throw new Error("readTestStream belongs into the build of runTest");
  return streams.push(stream) - 1;
}

/** The streams that are read by what `build` builds. */
export function collectStreams<R>(build: () => R): { result: R; streams: readonly TestStream<unknown>[] } {
  const before = streams;
  const found: TestStream<unknown>[] = [];
  streams = found;
  try {
    return { result: build(), streams: found };
  } finally {
    streams = before;
  }
}
