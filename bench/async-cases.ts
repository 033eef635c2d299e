import type * as beam from "apache-beam";
import { readPrimitive, writePrimitive } from "../lib/beam/primitives";
import { compilePipeline, mapAsync } from "../lib/index";
import type { Case, Sample } from "./frame";

const ANSWER_MS = 10;
const IN_FLIGHT = 1_000;
const CALLS = 40_000;
const IDEAL = (IN_FLIGHT / ANSWER_MS) * 1_000;

/**
 * A service that answers every call exactly 10 ms later, as far as the event loop lets it: timers of Node are late by
 * up to a millisecond, which would be a tenth of the figure.
 */
class Service {
  private readonly waiting: {
    readonly atMs: number;
    readonly answer: (n: number) => void;
    readonly n: number;
  }[] = [];
  private next = 0;

  call(n: number): Promise<number> {
    return new Promise((answer) => {
      if (this.waiting.length === this.next) setImmediate(this.turn);
      this.waiting.push({ atMs: performance.now() + ANSWER_MS, answer, n });
    });
  }

  private readonly turn = (): void => {
    const now = performance.now();
    for (
      let call = this.waiting[this.next];
      call !== undefined && call.atMs <= now;
      call = this.waiting[this.next]
    ) {
      this.next += 1;
      call.answer(call.n);
    }
    if (this.waiting.length > this.next) setImmediate(this.turn);
  };
}

/** Wall-clock time, the service included. */
async function timed(run: (call: (n: number) => Promise<number>) => Promise<void>): Promise<Sample> {
  const service = new Service();
  const startedMs = performance.now();
  await run((n) => service.call(n));
  const seconds = (performance.now() - startedMs) / 1_000;
  return { "calls a second": CALLS / seconds };
}

/** The busy time alone: calls that are answered at once. */
async function busy(run: (call: (n: number) => Promise<number>) => Promise<void>): Promise<Sample> {
  const before = process.cpuUsage();
  await run((n) => Promise.resolve(n));
  const { user, system } = process.cpuUsage(before);
  return { "ns of CPU a call": ((user + system) * 1_000) / CALLS };
}

async function pipeline(call: (n: number) => Promise<number>): Promise<void> {
  const build = (root: beam.Root): void => {
    root
      .apply(readPrimitive<number>("in", { kind: "znode-changes", config: {}, bounded: false }))
      .apply(mapAsync(call, { concurrency: IN_FLIGHT, ordered: false }))
      .apply(writePrimitive<number>("out", { sink: "out", config: {}, toPayload: (n: number) => n }));
  };
  const compiled = compilePipeline({ name: "async", build, shards: 1 });
  const clock = { now: () => Date.now(), sleep: () => new Promise<void>(() => undefined) };
  const bundle = compiled.openShard(compiled.stages[0]!.id).beginBundle(-Infinity, 0, undefined, clock);
  for (let n = 0; n < CALLS; n++) {
    bundle.processSourceElement(n, 0);
    if (bundle.isBusy) await bundle.room();
  }
  await bundle.drain();
  if (bundle.finish().effects.length !== CALLS) throw new Error("elements were lost");
}

/** What one would write for this alone: so many workers that take the next element when they have an answer. */
async function workers(call: (n: number) => Promise<number>): Promise<void> {
  const results: number[] = [];
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < CALLS) results.push(await call(next++));
  };
  await Promise.all(Array.from({ length: IN_FLIGHT }, worker));
  if (results.length !== CALLS) throw new Error("elements were lost");
}

export function asyncCases(): Case[] {
  const rate = [{ name: "calls a second", better: "higher" as const }];
  return [
    {
      name: "1,000 in flight at 10 ms / the ideal",
      metrics: rate,
      ours: () => timed(pipeline),
      peer: async () => ({ "calls a second": IDEAL }),
    },
    {
      name: "1,000 in flight at 10 ms / a loop",
      metrics: rate,
      ours: () => timed(pipeline),
      peer: () => timed(workers),
    },
    {
      name: "answered at once / a loop",
      metrics: [{ name: "ns of CPU a call", better: "lower" }],
      ours: () => busy(pipeline),
      peer: () => busy(workers),
    },
  ];
}
