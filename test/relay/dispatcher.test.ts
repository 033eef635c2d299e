import fc from "fast-check";
import type { ShardReply, ShardRequest } from "../../lib/checkpoint/invocation";
import type { Clock } from "../../lib/clock";
import { silent } from "../../lib/log";
import { Dispatcher, type DispatcherOptions } from "../../lib/relay/dispatcher";
import { ShardFailedError } from "../../lib/relay/errors";

/** A clock that stands still until it is told. */
class FakeClock implements Clock {
  ms = 0;
  private sleepers: { atMs: number; wake: () => void }[] = [];

  now = (): number => this.ms;
  random = (): number => 1;
  uniqueId = (): string => "0";

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((wake) => {
      this.sleepers.push({ atMs: this.ms + ms, wake });
      signal?.addEventListener("abort", () => wake(), { once: true });
    });
  }

  async advance(ms: number): Promise<void> {
    this.ms += ms;
    const due = this.sleepers.filter(({ atMs }) => atMs <= this.ms);
    this.sleepers = this.sleepers.filter(({ atMs }) => atMs > this.ms);
    for (const { wake } of due) wake();
    await turn();
  }
}

/** Lets everything run that waits for nothing but promises. */
async function turn(): Promise<void> {
  await new Promise((done) => setImmediate(done));
}

interface Call {
  readonly request: ShardRequest;
  readonly answer: (reply?: Partial<ShardReply>) => Promise<void>;
  readonly fail: (error?: unknown) => Promise<void>;
}

const STAGES: DispatcherOptions["stages"] = [
  { id: "read", upstream: [{ type: "source", id: "znodes" }] },
  { id: "group", upstream: [{ type: "stage", id: "read" }] },
];

class Bench {
  readonly clock = new FakeClock();
  /** Calls that wait for an answer, oldest first. */
  readonly calls: Call[] = [];
  total = 0;
  readonly dispatcher: Dispatcher;

  constructor(options: Partial<DispatcherOptions> = {}) {
    this.dispatcher = new Dispatcher({
      pipeline: "p",
      stages: STAGES,
      sources: ["znodes"],
      shards: { read: 2, group: 1 },
      invoke: (request) => this.invoke(request),
      clock: this.clock,
      log: silent,
      maxInFlight: 16,
      maxFailures: Number.POSITIVE_INFINITY,
      onReply: () => undefined,
      ...options,
    });
  }

  private invoke(request: ShardRequest): Promise<ShardReply> {
    this.total += 1;
    return new Promise((resolve, reject) => {
      const take = (): void => void this.calls.splice(this.calls.indexOf(call), 1);
      const call: Call = {
        request,
        answer: (reply) => {
          take();
          resolve({ ...IDLE, listedZxid: request.zxid, ...reply });
          return turn();
        },
        fail: (error = new Error("the function failed")) => {
          take();
          reject(error);
          return turn();
        },
      };
      this.calls.push(call);
    });
  }

  /** Shards whose calls wait, as read/0@zxid. */
  get waiting(): string[] {
    return this.calls.map(({ request: { stage, shard, zxid } }) => `${stage}/${shard}@${zxid}`).sort();
  }

  call(stage: string, shard = 0): Call {
    const found = this.calls.find(({ request }) => request.stage === stage && request.shard === shard);
    if (!found) throw new Error(`${stage}/${shard} is not called; what is: ${this.waiting.join(", ")}`);
    return found;
  }

  /** Every shard has answered that it is idle, so that nothing is unknown. */
  async started(reply: Partial<ShardReply> = {}): Promise<this> {
    this.dispatcher.wakeAll(1n);
    for (let call = this.calls[0]; call; call = this.calls[0]) await call.answer(reply);
    this.total = 0;
    return this;
  }
}

const IDLE: ShardReply = {
  outcome: "idle",
  commits: 0,
  commitNumber: 0,
  writes: 0,
  backlog: 0,
  fed: [],
  chained: [],
  listedZxid: "0",
  inputWatermarkMs: "-inf",
  holdMs: "+inf",
  nextTimerMs: "+inf",
  nextProcessingTimerMs: "+inf",
};

test("every shard is looked after once at the start, and behind each first answer its downstream", async () => {
  const bench = new Bench();
  bench.dispatcher.wakeAll(5n);
  expect(bench.waiting).toEqual(["group/0@5", "read/0@5", "read/1@5"]);
  await bench.call("group").answer();
  // An earlier relay's invocation may have fed it between its answer and read's.
  await bench.call("read", 0).answer({ listedZxid: "7" });
  expect(bench.waiting).toEqual(["group/0@7", "read/1@5"]);
  await bench.call("read", 1).answer({ listedZxid: "8" });
  await bench.call("group").answer();
  expect(bench.waiting).toEqual(["group/0@8"]);
  await bench.call("group").answer();
  expect(bench.dispatcher.quiet).toBe(true);
});

test("a wake-up calls its shard with the zxid, and only this one", async () => {
  const bench = await new Bench().started();
  bench.dispatcher.wake("read", 1, 0xabcn);
  expect(bench.waiting).toEqual(["read/1@abc"]);
  bench.dispatcher.wake("nowhere", 0, 1n);
  await bench.call("read", 1).answer();
  expect(bench.total).toBe(1);
});

test("a wake-up during a run is not lost, and not a second call at once", async () => {
  const bench = await new Bench().started();
  bench.dispatcher.wake("read", 0, 10n);
  bench.dispatcher.wake("read", 0, 11n);
  bench.dispatcher.wake("read", 0, 9n);
  expect(bench.waiting).toEqual(["read/0@a"]);
  await bench.call("read").answer({ listedZxid: "a" });
  expect(bench.waiting).toEqual(["read/0@b"]);
  await bench.call("read").answer();
  expect(bench.dispatcher.quiet).toBe(true);
});

test("a listing that saw the later append settles it", async () => {
  const bench = await new Bench().started();
  bench.dispatcher.wake("read", 0, 10n);
  bench.dispatcher.wake("read", 0, 11n);
  await bench.call("read").answer({ listedZxid: "b" });
  expect(bench.dispatcher.quiet).toBe(true);
});

test("an answer of a listing older than the append is not believed", async () => {
  const bench = await new Bench().started();
  bench.dispatcher.wake("read", 0, 10n);
  await bench.call("read").answer({ listedZxid: "9" });
  expect(bench.waiting).toEqual(["read/0@a"]);
});

describe("a commit that is announced", () => {
  const commit = { source: "znodes", number: 7 };
  const announced = async (options: Partial<DispatcherOptions> = {}): Promise<Bench> => {
    const bench = await new Bench(options).started();
    bench.dispatcher.announce(commit, [{ stage: "read", shard: 0 }]);
    return bench;
  };

  test("its shard is called once, ahead of it, whichever of the two answers comes first", async () => {
    for (const isCommitFirst of [true, false]) {
      const bench = await announced();
      expect(bench.call("read").request.announced).toEqual(commit);
      if (isCommitFirst) bench.dispatcher.wake("read", 0, 0x14n);
      await bench.call("read").answer({ commits: 1, commitNumber: 1, listedZxid: "15" });
      if (!isCommitFirst) bench.dispatcher.wake("read", 0, 0x14n);
      expect([bench.total, bench.dispatcher.quiet]).toEqual([1, true]);
    }
  });

  test("an answer that has not seen it settles nothing", async () => {
    for (const isCommitFirst of [true, false]) {
      const bench = await announced();
      if (isCommitFirst) bench.dispatcher.wake("read", 0, 0x14n);
      await bench.call("read").answer({ listedZxid: "13" });
      if (!isCommitFirst) bench.dispatcher.wake("read", 0, 0x14n);
      expect(bench.waiting).toEqual(["read/0@14"]);
      expect(bench.call("read").request.announced).toBeUndefined();
    }
  });

  test("one that comes to nothing leaves nothing behind, and a call that fails is made again", async () => {
    const bench = await announced();
    await bench.call("read").answer();
    expect(bench.dispatcher.quiet).toBe(true);
    bench.dispatcher.announce(commit, [{ stage: "read", shard: 0 }]);
    await bench.call("read").fail();
    expect(bench.dispatcher.quiet).toBe(false);
    await bench.clock.advance(100);
    await bench.call("read").answer();
    expect([bench.waiting, bench.total]).toEqual([["group/0@1"], 4]);
  });

  test("nobody is called who could not be called for what is there", async () => {
    const bench = await announced({ maxInFlight: 2, writesPerSecond: 10 });
    bench.dispatcher.announce(commit, [{ stage: "read", shard: 0 }]);
    expect(bench.total).toBe(1);
    // The budget is with the first.
    bench.dispatcher.announce(commit, [{ stage: "read", shard: 1 }]);
    expect(bench.total).toBe(1);
    await bench.call("read").fail();
    await bench.clock.advance(99);
    bench.dispatcher.announce(commit, [{ stage: "read", shard: 0 }]);
    expect(bench.total).toBe(1);
    await bench.dispatcher.stop();
    bench.dispatcher.announce(commit, [{ stage: "read", shard: 1 }]);
    expect(bench.total).toBe(1);
  });
});

test("more work: called again at once; without any progress, after a pause", async () => {
  const bench = await new Bench().started();
  bench.dispatcher.wake("read", 0, 10n);
  await bench.call("read").answer({ outcome: "more", commits: 1 });
  expect(bench.waiting).toEqual(["read/0@a"]);
  await bench.call("read").answer({ outcome: "more", commits: 0 });
  expect(bench.waiting).toEqual([]);
  await bench.clock.advance(50);
  expect(bench.waiting).toEqual(["read/0@a"]);
});

test("shards that were fed are called", async () => {
  const bench = await new Bench().started();
  bench.dispatcher.wake("read", 0, 10n);
  await bench
    .call("read")
    .answer({ commits: 1, fed: [{ stage: "group", shard: 0, segments: 1, zxid: "1f" }] });
  expect(bench.waiting).toEqual(["group/0@1f"]);
});

test("a shard that answered in another's invocation is not called, as far as it has seen what was fed", async () => {
  const bench = await new Bench().started();
  bench.dispatcher.wake("read", 0, 10n);
  expect(bench.call("read").request.chain).toBe(true);
  const fed = [{ stage: "group", shard: 0, segments: 1, zxid: "1f" }];
  const group = { ...IDLE, stage: "group", shard: 0, commits: 1, commitNumber: 1, nextTimerMs: 5_000 };
  const chained = [{ ...group, listedZxid: "20" }];
  await bench.call("read").answer({ commits: 1, commitNumber: 1, fed, chained });
  expect(bench.waiting).toEqual([]);
  expect(bench.dispatcher.nextTimerMs(0)).toBe(5_000);
  bench.dispatcher.wake("read", 0, 0x30n);
  const late = [{ ...group, commitNumber: 2, listedZxid: "3e" }];
  const more = [{ stage: "group", shard: 0, segments: 1, zxid: "3f" }];
  await bench.call("read").answer({ commits: 1, commitNumber: 2, fed: more, chained: late });
  expect(bench.waiting).toEqual(["group/0@3f"]);
});

test("an answer that was overtaken by a later commit's does not undo what that one said", async () => {
  const bench = await new Bench().started();
  bench.dispatcher.wake("group", 0, 0x10n);
  const own = bench.call("group");
  expect(own.request.chain).toBe(true);
  bench.dispatcher.wake("read", 0, 0x11n);
  expect(bench.call("read").request.chain).toBe(false);
  const group = { ...IDLE, stage: "group", shard: 0, commits: 1, commitNumber: 2, nextTimerMs: 7_000 };
  await bench.call("read").answer({ chained: [{ ...group, listedZxid: "12" }] });
  await own.answer({ commits: 1, commitNumber: 1, nextTimerMs: "+inf", listedZxid: "11" });
  expect(bench.dispatcher.nextTimerMs(0)).toBe(7_000);
});

test("commits that no answer told of may have fed others, so those are looked after", async () => {
  const bench = await new Bench().started();
  bench.dispatcher.wake("read", 0, 10n);
  await bench.call("read").answer({ commits: 1, commitNumber: 1 });
  expect(bench.waiting).toEqual([]);
  bench.dispatcher.wake("read", 0, 11n);
  await bench.call("read").answer({ commitNumber: 2, listedZxid: "c" });
  expect(bench.waiting).toEqual(["group/0@c"]);
});

test("a stage waits while the one that it feeds is behind, and the source with it", async () => {
  const bench = await new Bench({ maxBacklog: 10 }).started();
  const fed = [{ stage: "group", shard: 0, segments: 11, zxid: "1f" }];
  bench.dispatcher.wake("read", 0, 10n);
  await bench.call("read").answer({ commits: 1, commitNumber: 1, fed });
  bench.dispatcher.wake("read", 1, 0x20n);
  expect(bench.waiting).toEqual(["group/0@1f"]);
  expect(bench.dispatcher.holdsSource("znodes")).toBe(true);
  await bench.call("group").answer({ outcome: "more", commits: 1, commitNumber: 1, backlog: 6 });
  expect(bench.waiting).toEqual(["group/0@1f"]);
  await bench.call("group").answer({ outcome: "more", commits: 1, commitNumber: 2, backlog: 5 });
  expect(bench.waiting).toEqual(["group/0@1f", "read/1@20"]);
  expect(bench.dispatcher.holdsSource("znodes")).toBe(false);
});

test("invocations get what is left of the budget, and the next waits until there is some", async () => {
  const bench = await new Bench({ writesPerSecond: 10 }).started();
  bench.dispatcher.wake("read", 0, 10n);
  expect(bench.call("read").request.writes).toBe(10);
  bench.dispatcher.wake("group", 0, 10n);
  expect(bench.waiting).toEqual(["read/0@a"]);
  await bench.call("read").answer({ commits: 1, commitNumber: 1, writes: 4 });
  expect(bench.waiting).toEqual(["group/0@a"]);
  expect(bench.call("group").request.writes).toBe(6);
  await bench.call("group").answer({ commits: 1, commitNumber: 1, writes: 16 });
  bench.dispatcher.wake("read", 0, 11n);
  expect(bench.waiting).toEqual([]);
  await bench.clock.advance(1_099);
  expect(bench.waiting).toEqual([]);
  await bench.clock.advance(1);
  expect(bench.waiting).toEqual(["read/0@b"]);
});

test.each(["superseded", "interrupted"] as const)(
  "%s: asked again after a pause, and downstream is swept",
  async (outcome) => {
    const bench = await new Bench().started();
    bench.dispatcher.wake("read", 0, 10n);
    await bench.call("read").answer({ outcome, listedZxid: "b" });
    expect(bench.waiting).toEqual([]);
    expect(bench.dispatcher.quiet).toBe(false);
    await bench.clock.advance(49);
    expect(bench.waiting).toEqual([]);
    await bench.clock.advance(1);
    expect(bench.waiting).toEqual(["read/0@a"]);
    await bench.call("read").answer({ listedZxid: "c" });
    expect(bench.waiting).toEqual(["group/0@c"]);
  },
);

test("failures: called again after 100, 200, 400 ms... and downstream is swept after the first success", async () => {
  const bench = await new Bench().started();
  bench.dispatcher.wake("read", 0, 10n);
  for (const pauseMs of [100, 200, 400, 800]) {
    await bench.call("read").fail();
    await bench.clock.advance(pauseMs - 1);
    expect(bench.waiting).toEqual([]);
    await bench.clock.advance(1);
    expect(bench.waiting).toEqual(["read/0@a"]);
  }
  expect(bench.dispatcher.failures).toMatchObject([{ stage: "read", shard: 0, failures: 4 }]);
  await bench.call("read").answer({ listedZxid: "c" });
  expect(bench.dispatcher.failures).toEqual([]);
  expect(bench.waiting).toEqual(["group/0@c"]);
  await bench.call("group").answer();
  bench.dispatcher.wake("read", 0, 13n);
  await bench.call("read").fail();
  await bench.clock.advance(100);
  expect(bench.waiting).toEqual(["read/0@d"]);
});

test("the pause never exceeds half a minute", async () => {
  const bench = await new Bench().started();
  bench.dispatcher.wake("read", 0, 10n);
  for (let failure = 0; failure < 40; failure += 1) {
    await bench.call("read").fail();
    await bench.clock.advance(30_000);
  }
  expect(bench.waiting).toEqual(["read/0@a"]);
});

test("a shard that fails holds up no other", async () => {
  const bench = await new Bench().started();
  bench.dispatcher.wake("read", 0, 10n);
  await bench.call("read").fail();
  bench.dispatcher.wake("read", 1, 11n);
  expect(bench.waiting).toEqual(["read/1@b"]);
});

test.each([
  ["null", null],
  ["no zxid", { ...IDLE, listedZxid: undefined }],
  ["an error that is none", "thrown text"],
])("an answer that is none (%s) is a failure, with its back-off", async (_name, answer) => {
  const bench = await new Bench().started();
  bench.dispatcher.wake("read", 0, 10n);
  for (const pauseMs of [100, 200]) {
    if (typeof answer === "string") await bench.call("read").fail(answer);
    else await bench.call("read").answer({ ...answer, listedZxid: undefined } as never);
    expect(bench.waiting).toEqual([]);
    await bench.clock.advance(pauseMs);
    expect(bench.waiting).toEqual(["read/0@a"]);
  }
});

test("gives up after maxFailures in a row, with shard and reason", async () => {
  const bench = await new Bench({ maxFailures: 2 }).started();
  const failure = bench.dispatcher.failure.catch((error: unknown) => error);
  bench.dispatcher.wake("read", 1, 10n);
  await bench.call("read", 1).fail();
  await bench.clock.advance(100);
  await bench.call("read", 1).fail(new RangeError("the value is poison"));
  const error = await failure;
  expect(error).toBeInstanceOf(ShardFailedError);
  expect((error as Error).message).toBe(
    'shard 1 of stage "read" failed 2 times, the last time with: the value is poison',
  );
});

describe("timers", () => {
  const timer = { nextTimerMs: 100, holdMs: 100, inputWatermarkMs: 0 } as const;

  test("a shard is called when its watermark reaches its timer, and not before", async () => {
    const bench = await new Bench().started();
    bench.dispatcher.published("znodes", 0, 5n);
    bench.dispatcher.wake("read", 0, 6n);
    await bench.call("read").answer(timer);
    expect(bench.dispatcher.nextTimerMs(0)).toBe(100);
    bench.dispatcher.published("znodes", 99, 7n);
    expect(bench.waiting).toEqual([]);
    bench.dispatcher.published("znodes", 100, 8n);
    expect(bench.waiting).toEqual(["read/0@8"]);
    expect(bench.dispatcher.nextTimerMs(100)).toBe(Number.POSITIVE_INFINITY);
  });

  test("a hold upstream keeps a timer from being due, and its end makes it due", async () => {
    const bench = await new Bench().started();
    bench.dispatcher.wake("read", 0, 6n);
    await bench.call("read").answer({ holdMs: 150, nextTimerMs: 900 });
    bench.dispatcher.wake("group", 0, 6n);
    await bench.call("group").answer({ nextTimerMs: 200, holdMs: 200 });
    bench.dispatcher.published("znodes", 500, 7n);
    expect(bench.waiting).toEqual([]);
    bench.dispatcher.wake("read", 0, 8n);
    await bench.call("read").answer({ inputWatermarkMs: 500, commits: 1 });
    expect(bench.waiting).toEqual(["group/0@8"]);
  });

  test("a busy shard upstream keeps timers from being due", async () => {
    const bench = await new Bench().started();
    bench.dispatcher.wake("group", 0, 6n);
    await bench.call("group").answer({ nextTimerMs: 200, holdMs: 200 });
    bench.dispatcher.wake("read", 0, 6n);
    bench.dispatcher.published("znodes", 500, 7n);
    expect(bench.waiting).toEqual(["read/0@6"]);
    await bench.call("read").fail();
    expect(bench.waiting).toEqual([]);
    await bench.clock.advance(100);
    await bench.call("read").answer({ inputWatermarkMs: 500, listedZxid: "7" });
    expect(bench.waiting).toEqual(["group/0@7"]);
  });

  test("a function that does not find its timer due is not called again until something has changed", async () => {
    const bench = await new Bench().started();
    bench.dispatcher.wake("read", 0, 6n);
    await bench.call("read").answer(timer);
    bench.dispatcher.published("znodes", 100, 7n);
    bench.total = 0;
    for (let call = bench.calls[0]; call; call = bench.calls[0])
      await call.answer({ ...timer, inputWatermarkMs: 99 });
    await bench.clock.advance(60_000);
    expect(bench.total).toBeLessThanOrEqual(2);
    bench.dispatcher.published("znodes", 100, 8n);
    expect(bench.waiting).toEqual([]);
    bench.dispatcher.published("znodes", 101, 9n);
    expect(bench.waiting).toEqual(["read/0@9"]);
  });

  test("no timer is not a timer at infinity: shards below ended sources are left in peace", async () => {
    const bench = new Bench({ sources: [] });
    bench.dispatcher.wakeAll(1n);
    for (let call = bench.calls[0]; call; call = bench.calls[0]) {
      expect(bench.total).toBeLessThan(10);
      await call.answer({ commits: bench.total < 4 ? 1 : 0, inputWatermarkMs: "+inf" });
    }
    expect(bench.dispatcher.quiet).toBe(true);
  });
});

test("stop starts nothing more, and waits for what is under way", async () => {
  const bench = await new Bench().started();
  bench.dispatcher.wake("read", 0, 10n);
  let hasStopped = false;
  const stopped = bench.dispatcher.stop().then(() => {
    hasStopped = true;
  });
  bench.dispatcher.wake("read", 1, 10n);
  await turn();
  expect(hasStopped).toBe(false);
  await bench.call("read").answer({ outcome: "more" });
  await stopped;
  await bench.clock.advance(60_000);
  expect(bench.total).toBe(1);
});

test("stop with a bound leaves an invocation that does not end to itself", async () => {
  const bench = await new Bench().started();
  bench.dispatcher.wake("read", 0, 10n);
  let hasStopped = false;
  const stopped = bench.dispatcher.stop(3_000).then(() => {
    hasStopped = true;
  });
  await bench.clock.advance(2_999);
  expect(hasStopped).toBe(false);
  await bench.clock.advance(1);
  await stopped;
});

/** What happens to a bench, by chance: appends, answers, failures, time. */
type Event =
  | { readonly type: "append"; readonly stage: "read" | "group"; readonly shard: number }
  | { readonly type: "announce"; readonly stage: "read" | "group"; readonly shard: number }
  | { readonly type: "publish" }
  | { readonly type: "advance"; readonly ms: number }
  | { readonly type: "answer" | "answer-late" | "more" | "superseded" | "fail"; readonly which: number };

const events = fc.array(
  fc.oneof(
    fc.record({
      type: fc.constant("append" as const),
      stage: fc.constantFrom("read" as const, "group" as const),
      shard: fc.nat(3),
    }),
    fc.record({
      type: fc.constant("announce" as const),
      stage: fc.constant("read" as const),
      shard: fc.nat(3),
    }),
    fc.record({ type: fc.constant("publish" as const) }),
    fc.record({ type: fc.constant("advance" as const), ms: fc.nat(500) }),
    fc.record({
      type: fc.constantFrom(
        "answer" as const,
        "answer-late" as const,
        "more" as const,
        "superseded" as const,
        "fail" as const,
      ),
      which: fc.nat(),
    }),
  ),
  { maxLength: 60, size: "max" },
);

test("by chance: one call a shard, the total bounded, and every append is listed in the end", async () => {
  await fc.assert(
    fc.asyncProperty(events, async (steps) => {
      const limits = { maxInFlight: 3, maxBacklog: 2, writesPerSecond: 50 };
      const bench = new Bench({ shards: { read: 4, group: 4 }, ...limits });
      const appended = new Map<string, bigint>();
      const listed = new Map<string, bigint>();
      let zxid = 1n;
      const check = (): void => {
        const shards = bench.calls.map(({ request }) => `${request.stage}/${request.shard}`);
        expect(new Set(shards).size).toBe(shards.length);
        expect(shards.length).toBeLessThanOrEqual(3);
      };
      const answer = async (call: Call, at: bigint, reply: Partial<ShardReply>): Promise<void> => {
        const shard = `${call.request.stage}/${call.request.shard}`;
        if (reply.outcome === undefined) listed.set(shard, at);
        await call.answer({ listedZxid: at.toString(16), ...reply });
      };
      const take = async (step: Event): Promise<void> => {
        if (step.type === "append") {
          appended.set(`${step.stage}/${step.shard}`, ++zxid);
          bench.dispatcher.wake(step.stage, step.shard, zxid);
        } else if (step.type === "announce")
          bench.dispatcher.announce({ source: "znodes", number: 1 }, [step]);
        else if (step.type === "publish") bench.dispatcher.published("znodes", Number(++zxid), zxid);
        else if (step.type === "advance") await bench.clock.advance(step.ms);
        else {
          const call = bench.calls[step.which % Math.max(1, bench.calls.length)];
          if (!call) return;
          if (step.type === "fail") await call.fail();
          else if (step.type === "answer") await answer(call, zxid, {});
          else if (step.type === "answer-late") await answer(call, BigInt(`0x${call.request.zxid}`), {});
          else await answer(call, zxid, { outcome: step.type });
        }
      };
      for (const step of steps) {
        await take(step);
        check();
      }
      for (let round = 0; !bench.dispatcher.quiet; round += 1) {
        expect(round).toBeLessThan(200);
        await bench.clock.advance(30_000);
        for (const call of [...bench.calls]) await answer(call, zxid, {});
        check();
      }
      for (const [shard, at] of appended) expect(listed.get(shard)! >= at).toBe(true);
      await bench.dispatcher.stop();
    }),
    { seed: 20260724, numRuns: 150 },
  );
});
