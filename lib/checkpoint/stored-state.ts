import { NoNodeError, type ZooKeeperClient } from "../zookeeper";
import { type BlobStore, openRecord } from "./blobs";
import { reading } from "./commit";
import { EncodingError } from "./encoding";
import { type ShardLayout, stateName, stateRunPath } from "./layout";
import { decodeHead, type Head } from "./records";
import { rangesOf, STATE_LIMITS, type StateLimits, StoredState } from "./state";
import { bytesOf, decodeCells, type StateCell } from "./state-record";
import { readRecord } from "./stored-record";

/** The znodes of a state that are asked for at once. */
const READ_AHEAD = 32;

/** A head as it was read: with its version, and the zxid of the commit that wrote it. */
export interface ReadHead {
  readonly head: Head;
  readonly version: number;
  readonly zxid: bigint;
}

export async function readHead(client: ZooKeeperClient, { head: path }: ShardLayout): Promise<ReadHead> {
  const { data, stat } = await reading(client, () => client.getData(path));
  return { head: decodeHead(data, path), version: stat.version, zxid: stat.mzxid };
}

/**
 * The cells of a run, for `StoredState.plan`. Rejects with NoNodeError where another commit has taken the run away, also
 * where that was found by its blob being gone.
 */
export function runReader(client: ZooKeeperClient, blobs: BlobStore): (path: string) => Promise<StateCell[]> {
  return async (path) => decodeCells("stateRun", (await readRecord(client, blobs, path)).frame, path);
}

/**
 * Loads the state that belongs to a head, and gives `take` each of its cells once. Undefined where another commit
 * came meanwhile: the head is then to be read again.
 *
 * One listing tells what there is. It belongs to the head if nothing below `state` is younger than the head's commit,
 * and names are never used twice; so what can be read of it is what that commit left, and what is gone was taken away
 * by a later one. Rejects with {@link EncodingError} for state that no commit has left so, or with the client's error.
 */
export async function loadState(
  client: ZooKeeperClient,
  blobs: BlobStore,
  layout: ShardLayout,
  current: ReadHead,
  take: (cell: StateCell) => void,
  limits: StateLimits = STATE_LIMITS,
): Promise<StoredState | undefined> {
  if (current.head.state.znodes === 0) return new StoredState(layout, limits);
  try {
    const { children, stat } = await reading(client, () => client.getChildren(layout.state));
    if (stat.pzxid > current.zxid) return await changed(client, layout, current, "has been changed");
    if (children.length !== current.head.state.znodes) {
      const problem = `has ${children.length} znodes, and the head tells of ${current.head.state.znodes}`;
      return await changed(client, layout, current, problem);
    }
    return await new Loading(client, blobs, layout, limits).load(children, take);
  } catch (error) {
    if (error instanceof NoNodeError) return changed(client, layout, current, "has lost a znode");
    throw error;
  }
}

/** Throws unless the head has moved on, which explains it. */
async function changed(
  client: ZooKeeperClient,
  layout: ShardLayout,
  { version }: ReadHead,
  problem: string,
): Promise<undefined> {
  const now = await readHead(client, layout);
  if (now.version !== version) return undefined;
  throw new EncodingError(
    layout.state,
    `the state ${problem} without a commit`,
    "Nothing was consumed. Restore the znodes from a backup, or start the pipeline under a new name or root.",
  );
}

class Loading {
  constructor(
    private readonly client: ZooKeeperClient,
    private readonly blobs: BlobStore,
    private readonly layout: ShardLayout,
    private readonly limits: StateLimits,
  ) {}

  async load(children: readonly string[], take: (cell: StateCell) => void): Promise<StoredState> {
    const names = children.map((child) => stateName(child) ?? this.fail(`${child} is none of its names`));
    const runs = names.filter((name) => name.kind === "run");
    const ranges = rangesOf(runs) ?? this.fail("the key groups of its runs overlap");
    const state = new StoredState(this.layout, this.limits, ranges);
    const deltas = names.filter((name) => name.kind === "delta").sort((a, b) => a.number - b.number);
    const paths = deltas.map(({ name }) => `${this.layout.state}/${name}`);
    for await (const [index, cells] of this.read(state, paths, "stateDelta"))
      state.addDelta(deltas[index]!.number, cells);
    state.measure(await this.loadRuns(state, take));
    return state;
  }

  /**
   * Gives the cells of runs, the newest first, and passes over those that are changed or removed since: what is in
   * memory is one run, and the ids of one range. Resolves to the sizes of runs by path.
   */
  private async loadRuns(state: StoredState, take: (cell: StateCell) => void): Promise<Map<string, number>> {
    const places = state.ranges.flatMap((range) =>
      range.runs.toReversed().map(({ number }) => ({
        range,
        path: stateRunPath(this.layout, range.from, range.to, number),
      })),
    );
    const sizes = new Map<string, number>();
    const known = new Set<string>();
    const give = (cells: Iterable<StateCell>): void => {
      for (const cell of cells) {
        const { id } = cell;
        if (known.has(id)) continue;
        known.add(id);
        if (cell.value !== undefined) take(cell);
      }
    };
    const paths = places.map(({ path }) => path);
    for await (const [index, run] of this.read(state, paths, "stateRun")) {
      const { range } = places[index]!;
      if (places[index - 1]?.range !== range) {
        known.clear();
        give(state.pendingIn(range));
      }
      sizes.set(paths[index]!, bytesOf(run));
      give(run);
    }
    for (const range of state.ranges) {
      known.clear();
      if (range.runs.length === 0) give(state.pendingIn(range));
    }
    return sizes;
  }

  /** Reads in order: znodes ahead, and blobs when it comes to them, since they may be large. */
  private async *read(
    state: StoredState,
    paths: readonly string[],
    kind: "stateDelta" | "stateRun",
  ): AsyncGenerator<[number, StateCell[]]> {
    const ahead: Promise<Buffer>[] = [];
    const read = async (path: string): Promise<Buffer> =>
      (await reading(this.client, () => this.client.getData(path))).data;
    try {
      for (const [index, path] of paths.entries()) {
        while (ahead.length < READ_AHEAD && index + ahead.length < paths.length) {
          const data = read(paths[index + ahead.length]!);
          // It may fail before its turn comes to be waited for; then it would be nobody's, and end the process.
          data.catch(() => undefined);
          ahead.push(data);
        }
        const data = await ahead.shift()!;
        const record = await openRecord(this.blobs, data, path);
        const { frame, blob } = record ?? (await readRecord(this.client, this.blobs, path));
        if (blob !== undefined) state.blobs.set(path, blob);
        yield [index, decodeCells(kind, frame, path)];
      }
    } finally {
      await Promise.allSettled(ahead);
    }
  }

  private fail(problem: string): never {
    throw new EncodingError(
      this.layout.state,
      problem,
      "Nothing was consumed. Remove what does not belong there.",
    );
  }
}
