import * as beam from "apache-beam";
import { definePipeline, readZnodeChanges, writeToZnodes } from "../../../lib/index";

/** Everything about functions that serialising them would break, in one pipeline. */
class Tally implements beam.DoFn<{ path: string; size: number }, { path: string; weight: number }> {
  readonly #factor: number;
  constructor(factor: number) {
    this.#factor = factor;
  }
  *process(element: { path: string; size: number }) {
    yield { path: element.path, weight: element.size * this.#factor };
  }
}

class Doubled extends beam.PTransformClass<
  beam.PCollection<{ path: string; weight: number }>,
  beam.PCollection<{ path: string; weight: number }>
> {
  override expand(input: beam.PCollection<{ path: string; weight: number }>) {
    return input.map((row) => ({ ...row, weight: row.weight * 2 }));
  }
}

function offsetBy(offset: number) {
  // Two of these are equal as text and differ in what they capture.
  return (row: { path: string; weight: number }) => ({
    path: row.path,
    weight: row.weight + offset,
    padding: "long".length,
  });
}

export default definePipeline({
  name: "closures",
  build: (root) => {
    root
      .apply(readZnodeChanges("/in"))
      .map((change) => ({ path: change.path, size: (change.text ?? "").length }))
      .apply(beam.parDo(new Tally(10)))
      .map(offsetBy(1))
      .map(offsetBy(2))
      .apply(new Doubled())
      .apply((rows: beam.PCollection<{ path: string; weight: number }>) =>
        rows.map((row) => ({ ...row, seen: true })),
      )
      .apply(beam.windowInto(beam.fixedWindows(0.5)))
      .apply(
        beam
          .groupBy(
            (row: { path: string; weight: number }) => row.path.split("/").slice(0, 3).join("/"),
            "prefix",
          )
          .combining("weight", (a, b) => a + b, "total")
          .combining("path", (a, b) => Math.min(a, b), "first"),
      )
      .apply(writeToZnodes((row) => ({ path: `/out${row.prefix}`, data: `${row.total} ${row.first}` })));
  },
});
