import * as beam from "apache-beam";
import {
  definePipeline,
  type PipelineDefinition,
  readAllText,
  splittableRead,
  writeToJsonLines,
} from "beamkeeper";
import { newFiles } from "./new-files";

interface Order {
  readonly sku: string;
  readonly amount: number;
}

/** Orders that arrive as files of JSON lines: what was ordered of each article, by when its file was found. */
export function arrivals(pattern: string, everyMs: number, windowSeconds: number): PipelineDefinition {
  return definePipeline({
    name: "arrivals",
    build: (root) => {
      root
        .apply(beam.create([pattern]))
        .apply(splittableRead(newFiles([pattern], everyMs)))
        .apply(readAllText())
        .map((line) => JSON.parse(line) as Order)
        .apply(beam.windowInto(beam.fixedWindows(windowSeconds)))
        .apply(beam.groupBy("sku").combining("amount", (a: number, b: number) => a + b, "amount"))
        .apply(writeToJsonLines("arrivals/part"));
    },
  });
}

export default arrivals("orders/*.jsonl", 5_000, 10);
