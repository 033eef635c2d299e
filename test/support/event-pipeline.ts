import * as beam from "apache-beam";
import {
  definePipeline,
  json,
  type PipelineDefinition,
  readEvents,
  readZnodeChanges,
  writeToZnodes,
} from "beamkeeper";

export interface EventPipelineOptions {
  /** Where result znodes go: one for each key and window. */
  readonly results: string;
  /** What is watched besides. Default: nothing. */
  readonly source?: string;
  readonly shards?: number;
}

/** What is sent as a direct event's data. */
export interface Order {
  readonly key: string;
  readonly amount: number;
}

/** Sums of orders by key in windows of one second, and of the lengths of watched values: two stages. */
export function ordersPipeline({ results, source, shards = 1 }: EventPipelineOptions): PipelineDefinition {
  return definePipeline({
    name: "orders",
    shards,
    build: (root) => {
      const events = root
        .apply(readEvents({ name: "orders", from: "direct", decode: json<Order>(), delaySeconds: 0 }))
        .map(({ value: { key, amount } }) => ({ key, amount }));
      const watched =
        source === undefined
          ? []
          : [
              root
                .apply(readZnodeChanges(source))
                .map(({ path, text }) => ({ key: path, amount: text?.length ?? 0 })),
            ];
      beam
        .P([events, ...watched])
        .apply(beam.flatten())
        .apply(beam.windowInto(beam.fixedWindows(1)))
        .apply(beam.groupBy("key").combining("amount", (a: number, b: number) => a + b, "amount"))
        .map(
          ({ key, amount }, { window }) => ({
            key,
            amount,
            start: (window.lookup() as beam.IntervalWindow).start.toNumber(),
          }),
          { window: beam.windowParam() },
        )
        .apply(
          writeToZnodes(({ key, amount, start }) => ({
            path: `${results}/${start}/${encodeURIComponent(key)}`,
            data: String(amount),
          })),
        );
    },
  });
}
