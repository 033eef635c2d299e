import * as beam from "apache-beam";
import { definePipeline, readZnodeChanges, writeToText, writeToZnodes, type ZnodeChange } from "beamkeeper";

interface Seen {
  readonly mzxid: bigint;
  readonly value: string | null;
}

/** One element for each change: what was seen, and how many values before it were not. */
function summarise(change: ZnodeChange) {
  const seen: Seen[] = [{ mzxid: change.mzxid, value: change.text }];
  return { path: change.path, seen, missed: change.missed, atLeast: change.missedAtLeast };
}

/**
 * The classic example: the changes below /app, in windows of one second, summarised for each znode, written as
 * text and back to ZooKeeper.
 */
export default definePipeline({
  name: "znode-summary",
  build: (root) => {
    const summaries = root
      .apply(readZnodeChanges("/app"))
      .map(summarise)
      .apply(beam.windowInto(beam.fixedWindows(1)))
      .apply(
        beam
          .groupBy("path")
          .combining("seen", (a: Seen[], b: Seen[]) => [...a, ...b], "seen")
          .combining("missed", (a: number, b: number) => a + b, "missed")
          .combining("atLeast", (a: boolean, b: boolean) => a || b, "atLeast"),
      )
      .map(
        (summary, { window }) => {
          const values = [...summary.seen]
            .sort((a, b) => (a.mzxid < b.mzxid ? -1 : 1))
            .map(({ value }) => value);
          const { path, missed, atLeast } = summary;
          return {
            path,
            window: windowStart(window.lookup()),
            values,
            last: values.at(-1) ?? null,
            missed,
            atLeast,
          };
        },
        { window: beam.windowParam() },
      );
    summaries.apply(
      writeToZnodes((summary) => ({
        path: `/summaries/${summary.window}/${encodeURIComponent(summary.path)}`,
        data: JSON.stringify(summary),
      })),
    );
    summaries.apply(writeToText("znode-summary/changes", { suffix: ".jsonl" }));
  },
});

function windowStart(window: beam.Window): string {
  return new Date((window as beam.IntervalWindow).start.toNumber()).toISOString();
}
