/** Who sees the changes below a root: the relay, and watches written by hand with the same client. */
import { segmentNames } from "../lib/checkpoint/layout";
import { decodeSegment } from "../lib/checkpoint/segment";
import { decodeZnodeChange } from "../lib/checkpoint/znode-change";
import { type CommitAhead, type RelayCommit, SourceRelay } from "../lib/relay/source-relay";
import { connect, type ZooKeeper } from "../lib/zookeeper";
import { relayOptions } from "./relay-take-up";
import { monotonicMs } from "./relay-writer";

/** Values are the numbers of the writes. */
export interface Load {
  readonly root: string;
  readonly znodes: number;
  readonly writes: number;
}

export interface Seen {
  /** By value, in ms of the machine's monotonic clock: when its handler has it, committed where it commits. */
  readonly seenAtMs: readonly number[];
  /** When its handler is called; default: when it has it. */
  readonly calledAtMs?: readonly number[];
  /** Since it has watched, in microseconds. */
  readonly cpuUs: number;
}

export interface Contestant {
  /** Ends when no later write can be missed. */
  watch(load: Load): Promise<void>;
  /** Waits for the last value of each znode, and ends the watch. */
  results(): Promise<Seen>;
}

const SEGMENT_BYTES = 128;
// Two of these without an element tell that all is appended; none comes while changes do.
const IDLE_MS = 100;
let runs = 0;

function cpuUs(since?: NodeJS.CpuUsage): number {
  const { user, system } = process.cpuUsage(since);
  return user + system;
}

/** The relay with one shard; what its commits appended is read back afterwards, outside of its CPU time. */
export function relayContestant(connectString: string): Contestant {
  const stop = new AbortController();
  const commits: { elements: number; atMs: number; calledAtMs: number }[] = [];
  const calledAtMs = new Map<number, number>();
  let client: ZooKeeper;
  let inbox: string;
  let running: Promise<void>;
  let began: NodeJS.CpuUsage;
  return {
    async watch({ root }) {
      client = await connect({ connectString });
      let hasBegun = (): void => undefined;
      const begun = new Promise<void>((done) => {
        hasBegun = done;
      });
      const onCommit = ({ number, elements, watermarkMs }: RelayCommit): void => {
        if (watermarkMs > Number.NEGATIVE_INFINITY) hasBegun();
        commits.push({ elements, atMs: monotonicMs(), calledAtMs: calledAtMs.get(number) ?? Number.NaN });
      };
      // Here the relay calls the bundle function; what it tells once more finds the call under way.
      const onAhead = ({ number }: CommitAhead): void => {
        if (!calledAtMs.has(number)) calledAtMs.set(number, monotonicMs());
      };
      const options = await relayOptions(client, root, `relay-${++runs}`, onCommit, IDLE_MS);
      inbox = options.current.scope.shard("read", 0).inbox;
      running = new SourceRelay({ ...options, onAhead }).run(stop.signal);
      await Promise.race([begun, running]);
      commits.length = 0;
      began = process.cpuUsage();
    },
    async results() {
      // Two idle rounds without an element: all is appended.
      const isQuiet = (): boolean =>
        commits.length > 1 && commits.slice(-2).every(({ elements }) => elements === 0);
      while (!isQuiet()) await new Promise((done) => setTimeout(done, 20));
      const took = cpuUs(began);
      const values: number[] = [];
      for (const { name } of segmentNames((await client.getChildren(inbox)).children)) {
        const { data } = await client.getData(`${inbox}/${name}`);
        for (const element of decodeSegment(data, name))
          values.push(Number(decodeZnodeChange(element).change.text));
      }
      const seenAtMs: number[] = [];
      const calledAtMs: number[] = [];
      let next = 0;
      for (const { elements, ...times } of commits)
        for (const end = next + elements; next < end; next++) {
          seenAtMs[values[next]!] = times.atMs;
          calledAtMs[values[next]!] = times.calledAtMs;
        }
      stop.abort();
      await running;
      await client.close();
      return { seenAtMs, calledAtMs, cpuUs: took };
    },
  };
}

/**
 * A recursive watch, and a read for each path that an event names and that is not being read. What is read is seen at
 * once; or, where it saves, when one multi has stored it with a cursor, as who must not lose it has to. What is read
 * while a multi is under way goes with the next.
 */
export function watchContestant(connectString: string, saves: boolean): Contestant {
  const seenAtMs: number[] = [];
  const dirty = new Map<string, boolean>();
  let hasSeenAll = (): void => undefined;
  const allSeen = new Promise<void>((done) => {
    hasSeenAll = done;
  });
  let client: ZooKeeper;
  let began: NodeJS.CpuUsage;
  let firstFinal: number;
  let awaited: number;
  let waiting: number[] = [];
  let isSaving = false;
  const place = `/saved-${++runs}`;

  const saw = (value: number): void => {
    if (seenAtMs[value] !== undefined) return;
    seenAtMs[value] = monotonicMs();
    if (value >= firstFinal && --awaited === 0) hasSeenAll();
  };
  const save = async (): Promise<void> => {
    isSaving = true;
    while (waiting.length > 0) {
      const values = waiting;
      waiting = [];
      await client.multi([
        { type: "setData", path: place, data: Buffer.from(String(values.at(-1))) },
        {
          type: "create",
          path: `${place}/segment-`,
          data: Buffer.alloc(SEGMENT_BYTES * values.length),
          mode: "persistent-sequential",
        },
      ]);
      values.forEach(saw);
    }
    isSaving = false;
  };
  const read = async (path: string): Promise<void> => {
    for (dirty.set(path, true); dirty.get(path); ) {
      dirty.set(path, false);
      const text = (await client.getData(path)).data.toString("utf8");
      if (text === "") continue;
      if (!saves) saw(Number(text));
      else if (waiting.push(Number(text)) > 0 && !isSaving) void save();
    }
    dirty.delete(path);
  };
  return {
    async watch({ root, writes, znodes }) {
      client = await connect({ connectString });
      firstFinal = writes - znodes;
      awaited = znodes;
      await client.create(place);
      await client.addWatch(root, "persistentRecursive", (notification) => {
        if (notification.type !== "event") return;
        const { path } = notification.event;
        if (dirty.has(path)) dirty.set(path, true);
        else void read(path);
      });
      began = process.cpuUsage();
    },
    async results() {
      await allSeen;
      const took = cpuUs(began);
      await client.close();
      return { seenAtMs, cpuUs: took };
    },
  };
}
