/**
 * What every contestant of the client benchmark is asked to do, for those that run in Node. A contestant is a process
 * of its own, so that its CPU is its own. It prints `ready`, reads `ROW IN_FLIGHT MILLISECONDS TAG` from a line, and
 * answers `OPERATIONS ELAPSED_US CPU_US P50_US`; the other languages' programs do the same.
 */
import { createInterface } from "node:readline";

export type Done = (error?: unknown) => void;

export interface Contestant {
  getData(path: string, done: Done): void;
  exists(path: string, done: Done): void;
  setData(path: string, data: Buffer, done: Done): void;
  create(path: string, data: Buffer, done: Done): void;
  /** Absent where the client has no multi. */
  setAll?(paths: readonly string[], data: Buffer, done: Done): void;
  createAll?(paths: readonly string[], data: Buffer, done: Done): void;
  children(path: string, done: (error: unknown, names?: readonly string[]) => void): void;
  /** getData that leaves a one-shot watch. */
  watch(path: string, fired: () => void, armed: Done): void;
}

const ZNODES = 100;
const MULTI_SIZE = 12;
const CREATES = 100;
const VALUE = Buffer.alloc(100, "x");
const WALK_ROOT = "/walk";

interface Ask {
  readonly row: string;
  readonly inFlight: number;
  readonly ms: number;
  readonly tag: string;
}

interface Answer {
  readonly operations: number;
  readonly p50Us: number;
}

const znode = (number: number): string => `/znode-${number % ZNODES}`;
const numbered = (count: number, nameOf: (index: number) => string): string[] =>
  Array.from({ length: count }, (_, index) => nameOf(index));

type Operation = (number: number, done: Done) => void;

function operationOf(contestant: Contestant, { row, tag }: Ask): Operation | undefined {
  const created = (number: number) => `/created/${tag}/${number}`;
  switch (row) {
    case "getData":
      return (number, done) => contestant.getData(znode(number), done);
    case "exists":
      return (number, done) => contestant.exists(znode(number), done);
    case "setData":
      return (number, done) => contestant.setData(znode(number), VALUE, done);
    case "create":
      return (number, done) => contestant.create(created(number), VALUE, done);
    case "multi": {
      const paths = (number: number) => numbered(MULTI_SIZE, (index) => znode(number * MULTI_SIZE + index));
      return contestant.setAll && ((number, done) => contestant.setAll!(paths(number), VALUE, done));
    }
    case "creates": {
      const paths = (number: number) => numbered(CREATES, (index) => `${created(number)}-${index}`);
      return contestant.createAll && ((number, done) => contestant.createAll!(paths(number), VALUE, done));
    }
    default:
      return undefined;
  }
}

/** Keeps so many operations in flight for the time, and waits for the last of them. */
function drive({ inFlight, ms }: Ask, operation: Operation): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const endMs = performance.now() + ms;
    let begun = 0;
    let completed = 0;
    const finish: Done = (error) => {
      if (error) reject(error as Error);
      completed += 1;
      if (performance.now() < endMs) operation(begun++, finish);
      else if (completed === begun) resolve({ operations: completed, p50Us: 0 });
    };
    while (begun < inFlight) operation(begun++, finish);
  });
}

/** From the sending of a change to the watch of the same client. */
async function watchLatency(contestant: Contestant, { ms }: Ask): Promise<Answer> {
  const latenciesUs: number[] = [];
  const endMs = performance.now() + ms;
  const path = znode(0);
  while (performance.now() < endMs) {
    await new Promise<void>((done, fail) => {
      let begunAt = 0;
      const fired = () => {
        latenciesUs.push((performance.now() - begunAt) * 1000);
        done();
      };
      contestant.watch(path, fired, (error) => {
        if (error) fail(error as Error);
        begunAt = performance.now();
        contestant.setData(path, VALUE, (failure) => void (failure && fail(failure as Error)));
      });
    });
  }
  latenciesUs.sort((a, b) => a - b);
  return { operations: latenciesUs.length, p50Us: latenciesUs[latenciesUs.length >> 1]! };
}

/** Lists and reads every znode below the root, so many requests at a time. */
function walk(contestant: Contestant, { inFlight }: Ask): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const queue: { readonly path: string; readonly isList: boolean }[] = [{ path: WALK_ROOT, isList: true }];
    let pending = 0;
    let completed = 0;
    const next = (): void => {
      while (pending < inFlight && queue.length > 0) send(queue.pop()!);
      if (pending === 0) resolve({ operations: completed, p50Us: 0 });
    };
    const finish: Done = (error) => {
      if (error) reject(error as Error);
      pending -= 1;
      completed += 1;
      next();
    };
    const send = ({ path, isList }: { path: string; isList: boolean }): void => {
      pending += 1;
      if (!isList) contestant.getData(path, finish);
      else list(path);
    };
    const list = (path: string): void => {
      contestant.children(path, (error, names = []) => {
        const isTop = path === WALK_ROOT;
        for (const name of names) queue.push({ path: `${path}/${name}`, isList: false });
        if (isTop) for (const name of names) queue.push({ path: `${path}/${name}`, isList: true });
        finish(error);
      });
    };
    next();
  });
}

function answer(contestant: Contestant, ask: Ask): Promise<Answer> | undefined {
  if (ask.row === "watch") return watchLatency(contestant, ask);
  if (ask.row === "walk") return walk(contestant, ask);
  const operation = operationOf(contestant, ask);
  return operation && drive(ask, operation);
}

/** Connects to the first argument, and does what it is asked until its input ends. */
export async function serve(open: (connectString: string) => Promise<Contestant>): Promise<void> {
  const contestant = await open(process.argv[2]!);
  process.stdout.write("ready\n");
  for await (const line of createInterface({ input: process.stdin })) {
    const [row, inFlight, ms, tag] = line.split(" ");
    const ask = { row: row!, inFlight: Number(inFlight), ms: Number(ms), tag: tag! };
    const cpuBefore = process.cpuUsage();
    const begunAt = performance.now();
    const result = await answer(contestant, ask);
    const { user, system } = process.cpuUsage(cpuBefore);
    const elapsedUs = Math.round((performance.now() - begunAt) * 1000);
    const text = result && `${result.operations} ${elapsedUs} ${user + system} ${Math.round(result.p50Us)}`;
    process.stdout.write(`${text ?? "-"}\n`);
  }
  process.exit(0);
}
