import * as beam from "apache-beam";
import { type SplittableSource, splittableRead, writeToZnodes } from "../index";
import type { ModelClient } from "./model-client";

/** Below it each record becomes a znode, once: a second creation would be a conflict. */
export const TICKS = "/ticks";

const FEEDS = ["a", "b", "c"];
/** Records of each feed, after which it ends. */
const TICKS_EACH = 40;
const TICK_MS = 60;
const LOOK_AGAIN_MS = 150;

/** How far a feed was read. */
interface Place {
  readonly feed: string;
  readonly next: number;
}

/**
 * Feeds that grow as time goes by, so that no piece comes twice: what is left of them waits in state, and is read on by
 * whatever process is there then.
 *
 * @param elapsedMs of the simulated time.
 */
export function readTicks(root: beam.Root, elapsedMs: () => number): void {
  const source: SplittableSource<string, Place, string> = {
    name: "ticks",
    unbounded: true,
    split: () => FEEDS.map((feed) => ({ feed, next: 0 })),
    *read({ feed, next }) {
      const there = Math.min(TICKS_EACH, Math.floor(elapsedMs() / TICK_MS));
      const end = Math.max(next, there);
      const records = Array.from({ length: end - next }, (_, index) => `${feed}-${next + index}`);
      const rest = end < TICKS_EACH ? { feed, next: end } : undefined;
      yield { records, rest, resumeAfterMs: LOOK_AGAIN_MS };
    },
  };
  root
    .apply(beam.create(["all"]))
    .apply(splittableRead(source))
    .apply(writeToZnodes((tick) => ({ path: `${TICKS}/${tick}`, data: "" }), { mode: "create" }));
}

/**
 * What is wrong with what was read, in sentences: of each feed a beginning, without a gap.
 *
 * @param isWhole all of it has to be there.
 */
export async function judgeTicks(client: ModelClient, isWhole: boolean): Promise<string[]> {
  const { children } = await client.getChildren(TICKS);
  return FEEDS.flatMap((feed) => {
    const read = children.filter((name) => name.startsWith(`${feed}-`)).map((name) => Number(name.slice(2)));
    const count = read.length;
    const gap = read.sort((a, b) => a - b).findIndex((tick, index) => tick !== index);
    if (gap >= 0) return [`feed ${feed}: ${gap} of ${count} records was never read`];
    return isWhole && count < TICKS_EACH ? [`feed ${feed}: only ${count} records were read`] : [];
  });
}
