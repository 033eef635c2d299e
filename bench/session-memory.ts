/** `session-memory.ts engine|map`: a million keys in sessions, all live at once, and what this process took for it. */
import * as beam from "apache-beam";
import { compilePipeline } from "beamkeeper";
import { readPrimitive } from "../lib/beam/primitives";

const KEYS = 1_000_000;
const BUNDLE_ELEMENTS = 100_000;
const GAP_SECONDS = 600;

function engine(): number {
  const build = (root: beam.Root): void => {
    root
      .apply(
        readPrimitive<{ key: string; value: number }>("in", {
          kind: "znode-changes",
          config: {},
          bounded: false,
        }),
      )
      .apply(beam.windowInto(beam.sessions(GAP_SECONDS)))
      .apply(beam.groupBy("key").combining("value", (a: number, b: number) => a + b, "sum"));
  };
  const pipeline = compilePipeline({ name: "sessions", build, shards: 1 });
  const [source, grouping] = pipeline.stages;
  const reader = pipeline.openShard(source!.id);
  let shard = pipeline.openShard(grouping!.id);
  for (let start = 0; start < KEYS; start += BUNDLE_ELEMENTS) {
    const reading = reader.beginBundle(-Infinity);
    for (let n = start; n < start + BUNDLE_ELEMENTS; n++)
      reading.processSourceElement({ key: `key-${n}`, value: n }, n / 10);
    const bundle = shard.beginBundle(-Infinity);
    for (const { bytes } of reading.finish().outputs.get(grouping!.id)!) bundle.processElement(bytes);
    shard = bundle.finish().shard;
  }
  return shard.beginBundle(-Infinity).finish().nextTimerMs;
}

function map(): number {
  const sessions = new Map<string, { startMs: number; endMs: number; sum: number }>();
  for (let n = 0; n < KEYS; n++)
    sessions.set(`key-${n}`, { startMs: n / 10, endMs: n / 10 + GAP_SECONDS * 1000, sum: n });
  let next = Infinity;
  for (const { endMs } of sessions.values()) next = Math.min(next, endMs);
  return next;
}

const before = process.cpuUsage();
const next = process.argv[2] === "engine" ? engine() : map();
const { user, system } = process.cpuUsage(before);
if (next !== GAP_SECONDS * 1000) throw new Error(`the first session ends at ${next} ms`);
const figures = {
  "MB at most": process.resourceUsage().maxRSS / 1024,
  "ns of CPU an element": ((user + system) * 1_000) / KEYS,
};
process.stdout.write(JSON.stringify(figures));
