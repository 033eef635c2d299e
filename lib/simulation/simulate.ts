import { readStatus } from "../checkpoint/status";
import { audit } from "../verify/auditor";
import { countFates, type FateCounts } from "../verify/commit-fates";
import { createParents, judgeRecords } from "./events";
import { Coverage } from "./faults";
import { Functions } from "./functions";
import { Mark } from "./mark";
import type { ModelClient } from "./model-client";
import { type Ending, end, pauseSometimes, replaySometimes, rescaleSometimes } from "./operator";
import { judge } from "./oracle";
import { Relays } from "./relays";
import { Services } from "./services";
import { COPIES, RESULTS, SOURCE } from "./summary-pipeline";
import { judgeTicks, TICKS } from "./ticks";
import { judgeCopies, updateUnderWay } from "./updates";
import { LEAST_ELEMENTS, LEAST_FAULTS, type Tally, World } from "./world";
import { Writer } from "./writer";

export interface Scenario {
  readonly seed: number;
  /** Faults by kind and step; a run adds to it (default: its own). */
  readonly coverage?: Coverage;
}

/** What a run gave. `problems` is empty when nothing was lost, doubled, out of order or stuck. */
export interface Report extends Tally {
  readonly seed: number;
  readonly problems: readonly string[];
  readonly stages: number;
  readonly shards: number;
  readonly virtualMs: number;
  readonly fates: FateCounts;
}

// Some ten times what a run takes; whoever needs more is going round in circles.
const LIMIT_MS = 600_000;
const LIMIT_STEPS = 150_000;

const ENDINGS: readonly Ending[] = ["settled", "settled", "settled", "settled", "drained", "cancelled"];

/**
 * Runs one seed from beginning to end: the real relay and runner on a model of ZooKeeper, in virtual time, with
 * faults. The same seed gives the same report. Runs must not overlap in one process.
 */
export async function simulate({ seed, coverage = new Coverage() }: Scenario): Promise<Report> {
  const world = new World(seed, coverage);
  let isDone = false;
  play(world).then(
    () => {
      isDone = true;
    },
    (error: unknown) => {
      const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
      world.problems.push(`the run failed: ${text}`);
      isDone = true;
    },
  );
  const inTime = await world.time.run(() => isDone, LIMIT_MS, LIMIT_STEPS);
  if (!inTime) world.problems.push(`stuck: ${await describe(world)}`);
  world.end();
  const { stages, shards } = world.pipeline;
  const { problems, commitIds } = audit(world.ensemble.onDisk, world.layout);
  world.problems.push(...problems);
  return {
    ...world.tally,
    seed,
    problems: world.problems,
    stages: stages.length,
    shards: Math.min(...shards.values()),
    virtualMs: world.elapsedMs,
    fates: countFates(world.fates, commitIds),
  };
}

async function play(world: World): Promise<void> {
  const { time, tally, problems } = world;
  const observer = world.ensemble.connect();
  await observer.create(SOURCE);
  await observer.create(RESULTS);
  if (world.changed) await observer.create(COPIES);
  if (world.isFollowing) await observer.create(TICKS);
  if (world.hasRecords) await createParents(observer);
  const mark = world.isFollowing ? new Mark(world, observer) : undefined;
  await mark?.begin();
  void mark?.keep();
  const functions = new Functions(world);
  const relays = new Relays(world, functions);
  const services = world.hasRecords ? new Services(world) : undefined;
  world.duplicate = (process) => {
    if (!functions.duplicate(process) && !services?.duplicate(process)) void relays.once();
  };
  void relays.keep();
  if (world.isElected) void relays.keep();
  // Two fence each other, and each new one reads all that there is, or stands by before.
  if (time.chance(0.3)) void relays.keep(time.between(1, 4), time.chance(0.5));
  // A writer that begins before the source does leaves values that no one can count.
  const fromTheStart = time.chance(0.7);
  if (fromTheStart) await sourceStarted(world, observer);
  const updated = world.changed && beside(world, updateUnderWay(world, world.changed));
  const mayPause = !updated && time.chance(0.3);
  if (mayPause) void beside(world, pauseSometimes(world));
  else if (!updated && time.chance(0.35)) void beside(world, rescaleSometimes(world));
  const ending = ENDINGS[time.between(0, ENDINGS.length - 1)]!;
  const fed = services && beside(world, services.feed());
  services?.serve();
  const writer = new Writer(world, observer, ending);
  if (time.chance(0.3)) void beside(world, replaySometimes(world));
  await writer.run();
  if (tally.elements < LEAST_ELEMENTS || tally.faults < LEAST_FAULTS)
    problems.push(`too little happened: ${tally.elements} elements, ${tally.faults} faults`);
  await updated;
  world.isEnding = true;
  await fed;
  if (ending === "settled") await services?.settled();
  const acknowledged = await end(world, writer, ending);
  await observer.sync();
  problems.push(...((await mark?.judge()) ?? []));
  if (world.isFollowing) problems.push(...(await judgeTicks(observer, ending === "settled")));
  if (world.changed) problems.push(...(await judgeCopies(world, observer, ending === "cancelled")));
  if (services) problems.push(...(await judgeRecords(observer, services.sent, ending === "cancelled")));
  problems.push(...(await judge(world, observer, { log: writer.log, acknowledged, fromTheStart })));
}

/** What goes on beside the writer, and must not fail. */
function beside({ problems }: World, work: Promise<void>): Promise<void> {
  return work.catch((error: unknown) => void problems.push(`what goes on beside failed: ${String(error)}`));
}

async function sourceStarted({ time, layout }: World, observer: ModelClient): Promise<void> {
  for (;;) {
    await time.sleep(20);
    const status = await readStatus(observer, layout);
    if (status?.sources.every(({ commits }) => commits > 0)) return;
  }
}

/** Where the pipeline stands when it is stuck. */
async function describe(world: World): Promise<string> {
  let text = "";
  void readStatus(world.ensemble.connect(), world.layout).then((status) => {
    text = JSON.stringify(status);
  });
  await world.time.run(() => text !== "", 10_000, LIMIT_STEPS);
  return text;
}
