/**
 * A shard's work on a group of 100 MB, for a test that gives this process less memory than that. Arguments: the
 * ensemble, the megabytes, and whether the user's function holds the group. Prints what came out.
 */
import * as beam from "apache-beam";
import { readZnodeChanges, writeToZnodes } from "beamkeeper";
import { connect } from "../../lib/zookeeper";
import { ShardLab } from "./shard-lab";

const [connectString, megabytes, isHeld] = process.argv.slice(2) as [string, string, string];
const ELEMENT_BYTES = 64 * 1024;
const PER_CHANGE = 80;
const LIMITS = { maxUnits: 1_000, commitSizeBytes: 512 * 1024, segmentSizeBytes: 128 * 1024 };

interface Item {
  readonly group: string;
  readonly half: number;
  readonly content: string;
}

function summary(items: Iterable<Item>): { count: number; bytes: number; first: string } {
  let [count, bytes, first] = [0, 0, ""];
  for (const { content } of items) {
    if (count === 0) first = content.slice(0, 4);
    count += 1;
    bytes += content.length;
  }
  return { count, bytes, first };
}

async function main(): Promise<void> {
  const client = await connect({ connectString });
  const name = `large-group-${isHeld}`;
  const lab = await ShardLab.open(client, {
    name,
    build: (root) => {
      root
        .apply(readZnodeChanges("/watched"))
        .flatMap(function* ({ text }): Generator<Item> {
          for (let i = 0; i < PER_CHANGE; i++)
            yield { group: "all", half: i % 2, content: `${text}.${i}`.padEnd(ELEMENT_BYTES, "~") };
        })
        .apply(beam.windowInto(beam.fixedWindows(1)))
        .apply(beam.groupBy("group"))
        .flatMap(({ value }) => (isHeld === "held" ? [...value].reverse() : value))
        .apply(beam.groupBy("half"))
        .map(({ key, value }) => ({ key, ...summary(value) }))
        .apply(
          writeToZnodes((half) => ({ path: `/${name}-result-${half.key}`, data: JSON.stringify(half) })),
        );
    },
  });
  const changes = Math.ceil((Number(megabytes) * 1024 * 1024) / (ELEMENT_BYTES * PER_CHANGE));
  const runner = lab.newRunner(LIMITS);
  const drain = async (index: number): Promise<void> => {
    // A cold start each time: the runner of the invocation before is forgotten.
    for (const error of await lab.drain(index, lab.newRunner(LIMITS), 1)) throw error;
  };
  for (let change = 0; change < changes; change++) {
    await lab.append(`v${change}`);
    for (const error of await lab.drain(0, runner, 1)) throw error;
    await drain(1);
  }
  await lab.publish(2_000);
  await drain(1);
  await drain(2);
  await drain(2);
  const results = await Promise.all([0, 1].map((half) => client.getData(`/${name}-result-${half}`)));
  const halves = results.map(({ data }) => JSON.parse(data.toString()));
  const blobs = (await lab.blobs.list("")).length;
  process.stdout.write(
    `${JSON.stringify({ halves, blobs, maxRssBytes: process.resourceUsage().maxRSS * 1024 })}\n`,
  );
  lab.close();
  await client.close();
}

void main();
