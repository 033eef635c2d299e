import * as beam from "apache-beam";
import { definePipeline, readRun, writeToText, writeToZnodes } from "beamkeeper";

/** Bounded: counts words by their length. With EVERY ("1 minute") it has a schedule; with BAD_WORD it fails. */
const every = process.env.EVERY;

export default definePipeline({
  name: "lengths",
  ...(every === undefined ? {} : { schedule: { rate: every } }),
  failures: { maxAttempts: 1, onExhausted: "stop" },
  build: (root) => {
    const counted = root
      .apply(readRun())
      .flatMap(() => ["to", "be", "or", "not", "to", "be", process.env.BAD_WORD ?? "that"])
      .map((word) => {
        if (word === "bad") throw new Error("that is no word");
        return { length: word.length, count: 1 };
      })
      .apply(beam.groupBy("length").combining("count", (a: number, b: number) => a + b, "count"));
    counted.apply(
      writeToZnodes(({ length, count }) => ({ path: `/lengths/${length}`, data: String(count) }), {
        mode: "upsert",
      }),
    );
    counted.apply(writeToText("lengths"));
  },
});
