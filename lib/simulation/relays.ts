import { PipelineMismatchError } from "../checkpoint/scope";
import type { Log } from "../log";
import { runRelay } from "../relay/relay";
import type { Turn } from "../relay/standby";
import { LOST_WORK } from "../relay/sweep";
import { relayInTurns } from "../relay/turns";
import { planPipeline } from "../runner/deployment";
import { Elections } from "./elections";
import { type Functions, struckBlobs } from "./functions";
import type { SimulatedProcess } from "./process";
import { ROOT, type World } from "./world";

/** What ends a relay in the ordinary course of faults; anything else is a defect. */
const ORDINARY_ENDS = new Set(["SourceError", "ConnectionLossError", "ReadLostError", "SessionExpiredError"]);

/** Of a relay that stands by, before it has its turn: several looks at what the active one has delivered. */
const LONGEST_WAIT_MS = 5_000;

/** Of a relay that stands for election, which hands its turn over then. */
const LONGEST_RUN_MS = 8_000;

/** Keeps relays going, as Lambda's schedule does: when one ends, the next one starts after a while. */
export class Relays {
  private readonly elections: Elections;

  constructor(
    private readonly world: World,
    private readonly functions: Functions,
  ) {
    this.elections = new Elections(world);
  }

  /** There is always one more relay, until the run ends or so many have been. */
  async keep(most = Number.POSITIVE_INFINITY, standsBy = false): Promise<void> {
    const { world } = this;
    for (let left = most; left > 0 && !world.hasEnded; left--) {
      await this.once(standsBy);
      await world.time.sleep(world.time.between(10, 500));
    }
  }

  /** One relay from its start to its end. */
  async once(standsBy = false): Promise<void> {
    const { world } = this;
    const process = world.newProcess("relay");
    const death = new Promise<void>((resolve) => {
      process.client.onDeath = resolve;
    });
    const stop = new AbortController();
    world.ending.add(stop);
    // Like the function, which hands over when its time is up.
    const forget = world.isElected
      ? world.time.after(world.time.between(500, LONGEST_RUN_MS), () => stop.abort())
      : undefined;
    const relay = this.run(process, stop.signal, standsBy).catch((error: unknown) => {
      // Code of before, or of what is to come.
      const isAnother = world.changed && error instanceof PipelineMismatchError;
      const isOrdinary = isAnother || (error instanceof Error && ORDINARY_ENDS.has(error.name));
      if (!isOrdinary && !process.dead)
        world.problems.push(`the relay failed: ${error instanceof Error ? error.stack : String(error)}`);
    });
    await Promise.race([relay, death]);
    // One that was killed waits for ever, and what it waits for keeps it in memory: it is let go when the run has ended.
    if (!process.dead) world.ending.delete(stop);
    world.hadGap = true;
    forget?.();
    if (world.isElected) await process.client.close();
    else process.client.die();
  }

  /** A wake-up that only a sweep makes up for is lost. */
  private readonly log: Log = (_level, message, fields) => {
    if (message === LOST_WORK) this.world.problems.push(`${message}: ${JSON.stringify(fields)}`);
  };

  /** It may be anybody's turn at any time: nothing that is delivered may rest on the election. */
  private readonly elect = async (_path: string, signal: AbortSignal): Promise<Turn> => {
    const { time } = this.world;
    await time.sleep(time.between(50, LONGEST_WAIT_MS), signal);
    return { lost: new AbortController().signal, leave: () => Promise.resolve() };
  };

  private run(process: SimulatedProcess, signal: AbortSignal, standsBy: boolean) {
    const { world, functions } = this;
    const { time } = world;
    const elect = world.isElected ? this.elections.of(process) : standsBy ? this.elect : undefined;
    const relay = world.isElected ? relayInTurns : runRelay;
    return relay(
      {
        client: world.clientOf(process),
        root: ROOT,
        pipeline: planPipeline(world.deployed),
        invoke: (request) =>
          process.dead ? new Promise(() => undefined) : process.heard(functions.invoke(request)),
        blobs: struckBlobs(world, process, "relay"),
        clock: process,
        log: this.log,
        limits: {
          commitSizeBytes: 512 * 1024,
          // Now and then nothing fits into a segment, so that everything goes to blobs.
          segmentSizeBytes: time.chance(0.2) ? 64 : 2_048,
          maxBatchPaths: time.chance(0.2) ? time.between(1, 10) : time.between(10, 50),
          idleIntervalMs: time.between(200, 1_000),
          lingerMs: time.chance(0.2) ? time.between(0, 20) : time.between(20, 80),
        },
        maxInFlight: 8,
        maxBacklog: time.between(2, 40),
        writesPerSecond: time.chance(0.3) ? time.between(100, 500) : Number.POSITIVE_INFINITY,
        sweepIntervalMs: 2_000,
        maxFailures: Number.POSITIVE_INFINITY,
        ...(elect ? { elect } : {}),
        onCommit: ({ elements, missed }) => {
          world.tally.elements += elements;
          world.tally.missed += missed;
        },
      },
      signal,
    );
  }
}
