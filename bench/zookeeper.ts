/**
 * Our ZooKeeper client against the other clients, and against a bare socket loop, which is the most that Node can do.
 * All of them do each row on the same server, round by round in turn. Options choose a part:
 * `--rows getData,watch`, `--peers ours,bare,java`, `--rounds 3`, `--servers 1`.
 */
import { type LocalZooKeeper, startZooKeeper } from "../infra/zookeeper/server";
import { connect, type ZooKeeper } from "../lib/zookeeper";
import { type Spread, spread } from "./frame";
import { measureLoading } from "./zookeeper-load";
import { NAMES, type Name, Peer } from "./zookeeper-peers";

const ROUND_MS = 250;
const WARM_UP_MS = 250;
const ZNODES = 100;
const VALUE = Buffer.alloc(100, "x");
const WALK_PARENTS = 100;
const WALK_CHILDREN = 1_000;
const WALK_IN_FLIGHT = 1_000;
const SINGLES = ["getData", "exists", "setData", "create"];
const IN_FLIGHT = [1, 100, 1_000];
const DELETES_AT_ONCE = 500;
/** What others have to be beaten by, and how far below the ceiling is near enough. */
const RIVALS: readonly Name[] = ["node-zookeeper-client", "native", "kazoo"];
const FAST_RIVALS: readonly Name[] = ["java", "c"];
const NEAR = 0.9;
const MAX_CPU_US = 30;
const MAX_MULTI_CPU_US = 40;
const MAX_LOAD_MS = 5;

interface Row {
  readonly name: string;
  readonly kind: string;
  readonly inFlight: number;
  /** The median latency counts, not the rate. */
  readonly isLatency?: boolean;
}

const ROWS: readonly Row[] = [
  ...SINGLES.flatMap((kind) =>
    IN_FLIGHT.map((inFlight) => ({ name: `${kind}, ${inFlight} in flight`, kind, inFlight })),
  ),
  { name: "multi of 12 setData, 100 in flight", kind: "multi", inFlight: 100 },
  { name: "multi of 100 creates, 10 in flight", kind: "creates", inFlight: 10 },
  { name: "watch latency, p50 µs", kind: "watch", inFlight: 1, isLatency: true },
  { name: "walk of 100,000 znodes", kind: "walk", inFlight: WALK_IN_FLIGHT },
];

export interface ContestOptions {
  readonly rows: readonly string[];
  readonly peers: readonly string[];
  readonly rounds: number;
  readonly servers: readonly (1 | 3)[];
}

/** What one contestant showed in one row. */
export interface Result {
  /** Operations a second, or µs for a latency. */
  readonly figure: Spread;
  readonly cpuUs: Spread;
}

export interface RowResult {
  readonly servers: number;
  readonly row: string;
  readonly results: Readonly<Partial<Record<Name, Result>>>;
  /** What is missed of what is to be reached; nothing where all is held. */
  readonly missed: readonly string[];
}

type Say = (line: string) => void;

export const contest = {
  name: "zookeeper",
  description:
    "our ZooKeeper client, four other clients of three languages and a bare socket loop, on the same servers",
};

export async function runContest(options: ContestOptions, say: Say): Promise<RowResult[]> {
  const all: RowResult[] = [];
  if (options.rows.length === 0 || options.rows.includes("load")) say(describeLoading());
  for (const servers of options.servers) {
    say(`\n${servers === 1 ? "One server" : "Three servers"} on loopback that do not wait for their disk`);
    const ensemble = await startZooKeeper({ servers, properties: { "zookeeper.forceSync": "no" } });
    try {
      all.push(...(await onServers(ensemble, servers, options, say)));
    } finally {
      await ensemble.stop();
    }
  }
  return all;
}

function describeLoading(): string {
  const { ours, peer } = measureLoading();
  const show = ({ median, min, max }: Spread) =>
    `${median.toFixed(1)} ms (${min.toFixed(1)}-${max.toFixed(1)})`;
  const verdict = ours.median <= MAX_LOAD_MS ? "held" : `more than ${MAX_LOAD_MS} ms`;
  return `loading the bundled client: ${verdict}; ours ${show(ours)}, node-zookeeper-client ${show(peer)}`;
}

async function onServers(
  { servers: [first] }: LocalZooKeeper,
  servers: 1 | 3,
  options: ContestOptions,
  say: Say,
): Promise<RowResult[]> {
  // All on the same server, else it would be a contest of places.
  const connectString = first!.address;
  const client = await connect({ connectString });
  const peers: Peer[] = [];
  try {
    const rows = ROWS.filter(({ kind }) => options.rows.length === 0 || options.rows.includes(kind));
    await populate(
      client,
      rows.some(({ kind }) => kind === "walk"),
    );
    for (const name of NAMES) {
      if (options.peers.length > 0 && !options.peers.includes(name)) continue;
      const peer = await Peer.start(name, connectString);
      if (peer instanceof Peer) peers.push(peer);
      else say(`MISSING ${name}: ${peer}`);
    }
    const results: RowResult[] = [];
    for (const row of rows) {
      results.push(await runRow(row, peers, options.rounds, servers, client));
      say(describe(results.at(-1)!));
    }
    return results;
  } finally {
    for (const peer of peers) peer.stop();
    await client.close();
  }
}

async function populate(client: ZooKeeper, forWalk: boolean): Promise<void> {
  await client.create("/created");
  const names = Array.from({ length: ZNODES }, (_, index) => `/znode-${index}`);
  await Promise.all(names.map((name) => client.create(name, VALUE)));
  if (!forWalk) return;
  await client.create("/walk");
  for (let parent = 0; parent < WALK_PARENTS; parent += 1) {
    await client.create(`/walk/${parent}`, VALUE);
    const children = Array.from({ length: WALK_CHILDREN }, (_, index) => `/walk/${parent}/${index}`);
    await client.multi(children.map((path) => ({ type: "create", path, data: VALUE }) as const));
  }
}

async function runRow(
  row: Row,
  peers: readonly Peer[],
  rounds: number,
  servers: number,
  client: ZooKeeper,
): Promise<RowResult> {
  const figures = new Map<Name, { figures: number[]; cpuUs: number[] }>();
  for (let round = -1; round < rounds; round += 1) {
    // Who comes first changes from round to round.
    const order = peers.map((_, index) => peers[(index + Math.max(round, 0)) % peers.length]!);
    for (const peer of order) {
      const tag = `${row.inFlight}-${round}-${peer.name}`;
      const answer = await measured(row, peer, round < 0 ? WARM_UP_MS : ROUND_MS, tag, client);
      if (answer === undefined || round < 0) continue;
      const known = figures.get(peer.name) ?? { figures: [], cpuUs: [] };
      figures.set(peer.name, known);
      known.figures.push(row.isLatency ? answer.p50Us : (answer.operations / answer.elapsedUs) * 1e6);
      known.cpuUs.push(answer.cpuUs / answer.operations);
    }
  }
  const results = Object.fromEntries(
    [...figures].map(([name, known]) => [
      name,
      { figure: spread(known.figures), cpuUs: spread(known.cpuUs) },
    ]),
  );
  return { servers, row: row.name, results, missed: missed(row, results) };
}

/** Creates go below a znode of the round's, which is removed after it, so that the server does not fill up. */
async function measured(row: Row, peer: Peer, ms: number, tag: string, client: ZooKeeper) {
  const isCreating = row.kind.startsWith("create");
  if (isCreating) await client.create(`/created/${tag}`);
  const answer = await peer.ask(row.kind, row.inFlight, ms, tag);
  if (isCreating) {
    const { children } = await client.getChildren(`/created/${tag}`);
    for (let at = 0; at < children.length; at += DELETES_AT_ONCE) {
      const names = children.slice(at, at + DELETES_AT_ONCE);
      await client.multi(names.map((name) => ({ type: "delete", path: `/created/${tag}/${name}` }) as const));
    }
    await client.delete(`/created/${tag}`);
  }
  return answer;
}

/** Not clearly worse: better in the median, or the intervals meet. */
function holds(row: Row, ours: Spread, other: Spread): boolean {
  return row.isLatency ? ours.min <= other.max : ours.max >= other.min;
}

function missed(row: Row, results: RowResult["results"]): string[] {
  const { ours, bare } = results;
  if (!ours) return [];
  const nearness =
    bare &&
    (row.isLatency ? bare.figure.median / ours.figure.median : ours.figure.median / bare.figure.median);
  const isAtCeiling = nearness !== undefined && nearness >= NEAR;
  const found: string[] = [];
  const rivals = row.inFlight >= 100 ? [...RIVALS, ...FAST_RIVALS] : RIVALS;
  for (const name of rivals) {
    const other = results[name];
    if (!other || holds(row, ours.figure, other.figure)) continue;
    found.push(`behind ${name}${isAtCeiling ? ", where Node can do no more" : ""}`);
  }
  if (bare && !isAtCeiling && !holds(row, ours.figure, bare.figure))
    found.push(`${Math.round((1 - nearness!) * 100)}% below the bare loop`);
  const limit =
    row.kind === "multi" ? MAX_MULTI_CPU_US : row.inFlight === 1_000 ? MAX_CPU_US : Number.POSITIVE_INFINITY;
  if (ours.cpuUs.median > limit) found.push(`${ours.cpuUs.median.toFixed(0)} µs of CPU, at most ${limit}`);
  return found;
}

function describe({ row, results, missed }: RowResult): string {
  const show = (value: number) => value.toLocaleString("en-US", { maximumFractionDigits: 0 });
  const lines = Object.entries(results).map(([name, { figure, cpuUs }]) => {
    const range = `(${show(figure.min)}-${show(figure.max)})`;
    return `    ${name.padEnd(22)} ${show(figure.median).padStart(9)} ${range.padEnd(20)} ${cpuUs.median.toFixed(1).padStart(7)} µs CPU`;
  });
  return [`${row}: ${missed.length === 0 ? "held" : missed.join("; ")}`, ...lines].join("\n");
}
