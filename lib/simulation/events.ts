import * as beam from "apache-beam";
import { json, readEvents, writeToZnodes } from "../index";
import type { ModelClient } from "./model-client";
import type { Sent } from "./services";

/** Below it, for each service, znodes with the numbers that were taken of a key in a window. */
const EVENTS = "/events";

/** How far the watermarks stay behind the services' clock, in seconds. */
const DELAY_SECONDS = 0.1;

/** What a record holds. */
export interface RecordValue {
  readonly key: string;
  /** Of the records of its service, in the order of sending. */
  readonly number: number;
  readonly padding: string;
}

/** A queue, whose messages come in any order, and a stream, in which those of a key are in order. */
export const SERVICES = ["sqs", "kinesis"] as const;
export type Service = (typeof SERVICES)[number];
export const QUEUE = "orders";
export const STREAM = "clicks";

/** The records of both services, gathered by key in windows of one second of their arrival. */
export function readRecords(root: beam.Root): void {
  const decode = json<RecordValue>();
  const common = { decode, delaySeconds: DELAY_SECONDS };
  root
    .apply(readEvents({ ...common, name: QUEUE, from: "sqs", queue: QUEUE }))
    .apply(gather("sqs"))
    .apply(writeToZnodes((write) => write));
  root
    .apply(readEvents({ ...common, name: STREAM, from: "kinesis", stream: STREAM }))
    .apply(gather("kinesis"))
    .apply(writeToZnodes((write) => write));
}

interface Gathered {
  readonly path: string;
  readonly data: string;
}

function gather(
  service: Service,
): beam.PTransform<beam.PCollection<{ readonly value: RecordValue }>, beam.PCollection<Gathered>> {
  return beam.withName(service, (records: beam.PCollection<{ readonly value: RecordValue }>) =>
    records
      .map(({ value: { key, number } }) => ({ key, numbers: [number] }))
      .apply(beam.windowInto<{ key: string; numbers: number[] }, beam.IntervalWindow>(beam.fixedWindows(1)))
      .apply(beam.groupBy("key").combining("numbers", (a: number[], b: number[]) => [...a, ...b], "numbers"))
      .map(
        ({ key, numbers }, { window }) => {
          const start = (window.lookup() as beam.IntervalWindow).start.toNumber();
          return { path: `${EVENTS}/${service}/${start}-${key}`, data: JSON.stringify(numbers) };
        },
        { window: beam.windowParam() },
      ),
  );
}

/** What its results lie below. */
export async function createParents(client: ModelClient): Promise<void> {
  await client.create(EVENTS);
  for (const service of SERVICES) await client.create(`${EVENTS}/${service}`);
}

/**
 * What is wrong with what was taken of the services, in sentences: each record that a service was told is done with
 * counts once, each other one at most once, and those of a stream's key are in the order of sending.
 *
 * @param isCancelled windows stay open then.
 */
export async function judgeRecords(
  client: ModelClient,
  sent: readonly Sent[],
  isCancelled: boolean,
): Promise<string[]> {
  const found = await Promise.all(sent.map((each) => judgeService(client, each, isCancelled)));
  return found.flat();
}

async function judgeService(
  client: ModelClient,
  { service, count, done }: Sent,
  isCancelled: boolean,
): Promise<string[]> {
  const problems: string[] = [];
  const taken = await readTaken(client, service);
  const all = [...taken.values()].flat();
  const once = new Set(all);
  if (once.size !== all.length) problems.push(`${service}: ${all.length - once.size} records count twice`);
  for (const number of once)
    if (number < 0 || number >= count) problems.push(`${service}: record ${number} was never sent`);
  for (const number of done)
    if (!once.has(number) && !isCancelled)
      problems.push(`${service}: record ${number} was done with, and does not count`);
  if (service === "kinesis")
    for (const [key, numbers] of taken)
      if (numbers.some((number, index) => index > 0 && number <= numbers[index - 1]!))
        problems.push(`${service}: the records of ${key} came in the order ${numbers.join(",")}`);
  return problems;
}

/** By key, the numbers in the order of the windows. */
async function readTaken(client: ModelClient, service: Service): Promise<Map<string, number[]>> {
  const parent = `${EVENTS}/${service}`;
  const { children } = await client.getChildren(parent);
  const windows = children.map((name) => {
    const [start, key] = name.split("-") as [string, string];
    return { start: Number(start), key, name };
  });
  const taken = new Map<string, number[]>();
  for (const { key, name } of windows.sort((a, b) => a.start - b.start)) {
    const { data } = await client.getData(`${parent}/${name}`);
    taken.set(key, [...(taken.get(key) ?? []), ...(JSON.parse(data.toString("utf8")) as number[])]);
  }
  return taken;
}
