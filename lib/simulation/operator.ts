import {
  ControlError,
  cancelPipeline,
  drainPipeline,
  pausePipeline,
  resumePipeline,
} from "../checkpoint/control";
import { type DeadLetter, listDeadLetters, replayDeadLetter } from "../checkpoint/dead-letter";
import type { PipelineLayout } from "../checkpoint/layout";
import { isSettled, readStatus } from "../checkpoint/status";
import { rescale } from "../runner/rescale";
import type { ModelClient } from "./model-client";
import { type Acknowledged, readSummaries } from "./oracle";
import type { World } from "./world";
import type { Writer } from "./writer";

/** Of one run. Each ends every relay, and the next one reads all that there is. */
const MOST_PAUSES = 5;
const MOST_RESCALES = 4;

/** How a run ends: it goes on until everything is processed, or it is stopped on purpose while the writer goes on. */
export type Ending = "settled" | "drained" | "cancelled";

/**
 * Ends the run in that way. Returns how many values of each path had been acknowledged when a drain began, all of
 * which have to be delivered; undefined where all that was written has to be.
 */
export async function end(world: World, writer: Writer, ending: Ending): Promise<Acknowledged | undefined> {
  if (ending === "drained") return drain(world, writer);
  if (ending === "cancelled") return cancel(world, writer);
  world.isMended = true;
  await replay(world, "pane");
  world.isQuiet = true;
  await settled(world);
  // What was poison until a moment ago may have become a dead letter since.
  while ((await replay(world, "pane")) > 0) await settled(world);
  return undefined;
}

async function settled({ time, ensemble, layout }: World): Promise<void> {
  const client = ensemble.connect();
  // Leaders' clocks differ: the end is after the latest time that any of them has given. The last leader's clock is
  // not behind it, so that nobody has to wait for that time.
  ensemble.clockSkewMs += Math.max(0, ensemble.latestMs - ensemble.now());
  const untilMs = Math.ceil((Math.max(ensemble.latestMs, ensemble.now()) + 1) / 1000) * 1000;
  for (;;) {
    await client.sync();
    const status = await readStatus(client, layout);
    if (status && isSettled(status, untilMs)) return;
    await time.sleep(300);
  }
}

/** Drains under faults: what was acknowledged before is delivered, and of the rest a prefix. */
async function drain(world: World, writer: Writer): Promise<Acknowledged> {
  const { time, ensemble, layout } = world;
  const client = ensemble.connect();
  const writing = writer.more(time.between(20, 100));
  await time.sleep(time.random() * 500);
  const acknowledged = new Map([...writer.log].map(([path, values]) => [path, values.length]));
  await drainPipeline(client, layout);
  while ((await readStatus(client, layout))?.generation.state !== "drained") await time.sleep(100);
  await writing;
  world.isQuiet = true;
  return acknowledged;
}

/** Cancels under faults: nothing changes from then on, and what was written by then was not written twice. */
async function cancel(world: World, writer: Writer): Promise<Acknowledged> {
  const { time, ensemble, layout } = world;
  const client = ensemble.connect();
  const writing = writer.more(time.between(20, 100));
  await time.sleep(time.random() * 500);
  await cancelPipeline(client, layout);
  world.isCancelled = true;
  const cut = async (): Promise<string> => {
    await client.sync();
    return JSON.stringify([await readStatus(client, layout), await readSummaries(client)]);
  };
  const before = await cut();
  await writing;
  await time.sleep(5_000);
  if ((await cut()) !== before) world.problems.push("something was committed after the cancellation");
  world.isQuiet = true;
  return new Map();
}

/**
 * Pauses the pipeline a few times, until the run comes to its end. A pause is a consistent cut: from its reply until the
 * pipeline is resumed, nothing below the epoch changes.
 */
export async function pauseSometimes(world: World): Promise<void> {
  const { time, layout } = world;
  const client = world.ensemble.connect();
  const cut = async (): Promise<string> => {
    await client.sync();
    return JSON.stringify(await readStatus(client, layout));
  };
  const isOver = (): boolean => world.isQuiet || world.isEnding;
  for (let left = time.between(1, MOST_PAUSES); left > 0 && !isOver(); ) {
    await time.sleep(time.between(50, 1_500));
    if (isOver() || !(await client.exists(layout.generation)) || isOver()) continue;
    left -= 1;
    await unlessEnding(world, () => pausePipeline(client, layout));
    world.tally.pauses += 1;
    // A relay that is told so ends, and the next one finds what happened by walking.
    world.hadGap = true;
    const before = await cut();
    await time.sleep(time.between(0, 1_000));
    if ((await cut()) !== before && !isOver())
      world.problems.push("something was committed while the pipeline was paused");
    await unlessEnding(world, () => resumePipeline(client, layout));
  }
}

/**
 * Rescales stages a few times, until the run comes to its end; whoever does it is killed at times, and the next one
 * begins again.
 */
export async function rescaleSometimes(world: World): Promise<void> {
  const { time, layout, ensemble, blobs } = world;
  const isOver = (): boolean => world.isQuiet || world.isEnding;
  for (let left = time.between(1, MOST_RESCALES); left > 0 && !isOver(); ) {
    await time.sleep(time.between(50, 2_000));
    const client = ensemble.connect();
    if (isOver() || !(await client.exists(layout.generation)) || isOver()) continue;
    left -= 1;
    const shards = Object.fromEntries(world.pipeline.stages.map(({ id }) => [id, time.between(1, 4)]));
    world.hadGap = true;
    world.tally.rescales += 1;
    const done = rescale(client, blobs, layout, shards).catch((error: unknown) => {
      if (!(error instanceof ControlError) || !isOver()) throw error;
    });
    const death = time.chance(0.4) ? time.sleep(time.between(1, 500)) : new Promise<never>(() => undefined);
    await Promise.race([done, death.then(() => client.die())]);
  }
  // The last one may have been killed while the pipeline was paused, or on the way to pausing it.
  await time.sleep(1_000);
  await resumePipeline(ensemble.connect(), layout).catch((error: unknown) => {
    if (!(error instanceof ControlError)) throw error;
  });
}

/** Replays what is in dead-letter now and then, mended or not, until the run comes to its end. */
export async function replaySometimes(world: World): Promise<void> {
  const { time, layout } = world;
  const isOver = (): boolean => world.isQuiet || world.isEnding;
  while (!isOver()) {
    await time.sleep(time.between(100, 1_500));
    if (isOver() || !(await world.ensemble.connect().exists(layout.generation)) || isOver()) continue;
    await replay(world, time.chance(0.5) ? "pane" : "element");
  }
}

async function replayed(client: ModelClient, layout: PipelineLayout, id: string): Promise<void> {
  try {
    await replayDeadLetter(client, layout, id);
  } catch (error) {
    // It is paused, or comes to its end.
    if (!(error instanceof ControlError)) throw error;
  }
}

/**
 * Replays all dead letters of that kind, two at a time now and then; whoever does it is killed at times, and the next
 * one begins again. Returns how many there were.
 */
async function replay(world: World, kind: DeadLetter["kind"]): Promise<number> {
  const { time, layout, tally } = world;
  const observer = world.ensemble.connect();
  await observer.sync();
  const letters = (await listDeadLetters(observer, layout)).filter(({ letter }) => letter.kind === kind);
  for (const { id } of letters) {
    const operators = Array.from({ length: time.chance(0.2) ? 2 : 1 }, () => world.ensemble.connect());
    const done = Promise.all(operators.map((client) => replayed(client, layout, id)));
    tally.replays += operators.length;
    if (world.isQuiet || time.chance(0.8)) await done;
    else {
      await Promise.race([done, time.sleep(time.random() * 30)]);
      for (const client of operators) client.die();
    }
  }
  return letters.length;
}

/** A pipeline that is drained or cancelled meanwhile refuses to be paused and resumed, and rightly so. */
async function unlessEnding(world: World, work: () => Promise<unknown>): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (!world.isEnding) throw error;
  }
}
