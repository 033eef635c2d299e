/**
 * Our ZooKeeper client against the other clients, and against a bare socket loop, which is the most that Node can do.
 * All of them do each row on the same server, round by round in turn. Options choose a part:
 * `--rows getData,watch`, `--peers ours,bare,java`, `--rounds 3`, `--servers 1`.
 */
import { type LocalZooKeeper, startZooKeeper } from "../infra/zookeeper/server";
import { connect, type ZooKeeper } from "../lib/zookeeper";
import { measureLoading } from "./zookeeper-load";
import { type Name, Peer, type Prepared, prepare } from "./zookeeper-peers";
import {
  type Estimate,
  estimate,
  type Finding,
  judge,
  type RowTarget,
  type Sample,
} from "./zookeeper-verdicts";

/** Short, so that a burst of other work on the machine meets few of many rounds. */
const ROUND_MS = 100;
/** Long enough for code that is compiled as it runs. */
const WARM_UP_MS = 500;
const ZNODES = 100;
const VALUE = Buffer.alloc(100, "x");
const WALK_PARENTS = 100;
const WALK_CHILDREN = 1_000;
const WALK_IN_FLIGHT = 1_000;
/** A walk takes seconds, so it has fewer rounds. */
const WALK_ROUNDS = 1 / 8;
const SINGLES = ["getData", "exists", "setData", "create"];
const IN_FLIGHT = [1, 100, 1_000];
const DELETES_AT_ONCE = 500;

interface Row extends RowTarget {
  readonly name: string;
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
  readonly figure: Estimate;
  readonly cpuUs: Estimate;
}

export interface RowResult {
  /** Of the ensemble; 0 where a row needs none. */
  readonly servers: number;
  readonly row: string;
  readonly results: Readonly<Partial<Record<Name, Result>>>;
  readonly findings: readonly Finding[];
}

type Say = (line: string) => void;

export const contest = {
  name: "zookeeper",
  description:
    "our ZooKeeper client, four other clients of three languages and a bare socket loop, on the same servers",
};

/** `recorded`: the rows of the baseline, to be shown beside those of today. */
export async function runContest(
  options: ContestOptions,
  recorded: readonly RowResult[],
  say: Say,
): Promise<RowResult[]> {
  const all: RowResult[] = [];
  const report = (result: RowResult) => {
    all.push(result);
    const same = ({ row, servers }: RowResult) => row === result.row && servers === result.servers;
    say(describe(result, recorded.find(same)));
  };
  const isWanted = (kind: string) => options.rows.length === 0 || options.rows.includes(kind);
  if (isWanted("load")) {
    const { findings, beside } = measureLoading();
    report({ servers: 0, row: "the client alone", results: {}, findings });
    for (const [name, ms] of Object.entries(beside)) say(`    ${name.padEnd(22)} ${withInterval(ms)} ms`);
  }
  const rows = ROWS.filter(({ kind }) => isWanted(kind));
  if (rows.length === 0) return all;
  // Before any of them connects: what is built meanwhile would take longer than a session lasts.
  const { prepared, missing } = prepare(options.peers);
  for (const [name, reason] of missing) say(`MISSING ${name}: ${reason}`);
  for (const servers of options.servers) {
    say(`\n${servers === 1 ? "One server" : "Three servers"} on loopback that do not wait for their disk`);
    const ensemble = await startZooKeeper({ servers, properties: { "zookeeper.forceSync": "no" } });
    try {
      const field = await Field.open(ensemble, servers, rows, prepared, say);
      try {
        for (const row of rows) report(await field.run(row, options.rounds));
      } finally {
        await field.close();
      }
    } finally {
      await ensemble.stop();
    }
  }
  return all;
}

/** One ensemble with its znodes, and the contestants that are connected to it. */
class Field {
  #peers: readonly Peer[];

  private constructor(
    private readonly servers: number,
    private readonly client: ZooKeeper,
    peers: readonly Peer[],
    private readonly say: Say,
  ) {
    this.#peers = peers;
  }

  static async open(
    { servers: [first] }: LocalZooKeeper,
    servers: number,
    rows: readonly Row[],
    prepared: readonly Prepared[],
    say: Say,
  ): Promise<Field> {
    // All on the same server, else it would be a contest of places.
    const connectString = first!.address;
    const client = await connect({ connectString });
    await populate(
      client,
      rows.some(({ kind }) => kind === "walk"),
    );
    const peers: Peer[] = [];
    for (const each of prepared) {
      const peer = await Peer.start(each, connectString);
      if (peer instanceof Peer) peers.push(peer);
      else say(`MISSING ${each.name}: ${peer}`);
    }
    return new Field(servers, client, peers, say);
  }

  async close(): Promise<void> {
    for (const peer of this.#peers) peer.stop();
    await this.client.close();
  }

  async run(row: Row, rounds: number): Promise<RowResult> {
    const samples: Partial<Record<Name, Sample[]>> = {};
    const isWalk = row.kind === "walk";
    const last = isWalk ? Math.ceil(rounds * WALK_ROUNDS) : rounds;
    // The round before the first warms up.
    for (let round = isWalk ? 0 : -1; round < last; round += 1) {
      for (const peer of inTurn(this.#peers, Math.max(round, 0))) {
        const ms = round < 0 ? WARM_UP_MS : ROUND_MS;
        const sample = await this.#sample(row, peer, ms, `${row.inFlight}-${round}-${peer.name}`);
        if (sample === undefined || round < 0) continue;
        samples[peer.name] = [...(samples[peer.name] ?? []), sample];
      }
    }
    const results = Object.fromEntries(
      Object.entries(samples).map(([name, rounds]) => [
        name,
        {
          figure: estimate(rounds.map(({ figure }) => figure)),
          cpuUs: estimate(rounds.map(({ cpuUs }) => cpuUs)),
        },
      ]),
    );
    return { servers: this.servers, row: row.name, results, findings: judge(row, samples) };
  }

  /** Creates go below a znode of the round's, which is removed after it, so that the server does not fill up. */
  async #sample(row: Row, peer: Peer, ms: number, tag: string): Promise<Sample | undefined> {
    const isCreating = row.kind.startsWith("create");
    if (isCreating) await this.client.create(`/created/${tag}`);
    try {
      const answer = await peer.ask(row.kind, row.inFlight, ms, tag);
      if (answer === undefined) return undefined;
      const { operations, elapsedUs, p50Us, cpuUs } = answer;
      const figure = row.isLatency ? p50Us : (operations / elapsedUs) * 1e6;
      return { figure, cpuUs: cpuUs / operations };
    } catch (error) {
      this.say(`DROPPED ${peer.name} in ${row.name}: ${(error as Error).message}`);
      peer.stop();
      this.#peers = this.#peers.filter((each) => each !== peer);
      return undefined;
    } finally {
      if (isCreating) await removeBelow(this.client, `/created/${tag}`);
    }
  }
}

/** Who comes first changes from round to round, and who comes after whom. */
function inTurn(peers: readonly Peer[], round: number): Peer[] {
  const order = peers.map((_, index) => peers[(index + round) % peers.length]!);
  return round % 2 === 0 ? order : order.reverse();
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

async function removeBelow(client: ZooKeeper, path: string): Promise<void> {
  const { children } = await client.getChildren(path);
  for (let at = 0; at < children.length; at += DELETES_AT_ONCE) {
    const names = children.slice(at, at + DELETES_AT_ONCE);
    await client.multi(names.map((name) => ({ type: "delete", path: `${path}/${name}` }) as const));
  }
  await client.delete(path);
}

function show(value: number): string {
  const maximumFractionDigits = Math.abs(value) < 10 ? 2 : Math.abs(value) < 100 ? 1 : 0;
  return value.toLocaleString("en-US", { maximumFractionDigits });
}

function withInterval({ median, low, high }: Estimate): string {
  return `${show(median)} (${show(low)} to ${show(high)})`;
}

function describe({ row, results, findings }: RowResult, recorded: RowResult | undefined): string {
  const isHeld = findings.every(({ verdict }) => verdict !== "MISS");
  const contestants = Object.entries(results).map(
    ([name, { figure, cpuUs }]) =>
      `    ${name.padEnd(22)} ${withInterval(figure).padEnd(30)} ${withInterval(cpuUs)} µs CPU`,
  );
  const targets = findings.map(({ target, measured, verdict }) => {
    const known = recorded?.findings.find((each) => each.target === target);
    const before = known ? `; recorded ${withInterval(known.measured)} ${known.verdict}` : "";
    return `  ${verdict.padEnd(7)} ${target}: ${withInterval(measured)}${before}`;
  });
  return [`\n${row}: ${isHeld ? "held" : "MISSED"}`, ...contestants, ...targets].join("\n");
}
