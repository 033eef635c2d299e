import type { WatchedEvent, WatchedEventType, WatchKind, WatchListener, WatchNotification } from "./api";
import type { SetWatches2 } from "./records";

export type WatchMode = "persistent" | "persistentRecursive";
/** `exist`: left by an `exists` that found no znode. These end with the event that they hear. */
export type OneShotKind = "data" | "exist" | "child";
type TableName = WatchMode | OneShotKind;

interface Registration {
  readonly listener: WatchListener;
  /** Of a one-shot watch with a signal: takes its listener off the signal, once it has fired. */
  release?: () => void;
}

type Table = Map<string, Set<Registration>>;

/** A setWatches2 stays well below the server's jute.maxbuffer, else the server drops the connection for ever. */
export const MAX_SET_WATCHES_BYTES = 128 * 1024;
const LENGTH_BYTES = 4;
/** The header, the zxid and the five counts of a setWatches2. */
const SET_WATCHES_FIXED_BYTES = 8 + 8 + 5 * LENGTH_BYTES;
const MAX_UTF8_BYTES_PER_UNIT = 3;

const TABLE_NAMES = ["data", "exist", "child", "persistent", "persistentRecursive"] as const;

/** Which one-shot watches an event ends: those that the server forgets with it, as in ZKWatchManager. */
const ENDED_BY: Readonly<Record<WatchedEventType, readonly OneShotKind[]>> = {
  created: ["data", "exist"],
  dataChanged: ["data", "exist"],
  deleted: ["data", "exist", "child"],
  childrenChanged: ["child"],
};

const TABLES_OF: Readonly<Record<WatchKind, readonly TableName[]>> = {
  data: ["data", "exist"],
  children: ["child"],
  persistent: ["persistent"],
  persistentRecursive: ["persistentRecursive"],
  any: TABLE_NAMES,
};

/** The watches of a session, by the server's paths (with chroot), and whom to tell what. */
export class WatchRegistry {
  readonly #tables: Readonly<Record<TableName, Table>> = {
    data: new Map(),
    exist: new Map(),
    child: new Map(),
    persistent: new Map(),
    persistentRecursive: new Map(),
  };

  get isEmpty(): boolean {
    return TABLE_NAMES.every((name) => this.#tables[name].size === 0);
  }

  /** Registers a listener of a persistent watch; returns what takes it away. */
  add(path: string, mode: WatchMode, listener: WatchListener): () => void {
    const registration = this.#register(mode, path, listener);
    return () => this.#unregister(mode, path, registration);
  }

  /** Registers a listener that hears one event, unless the signal forgets it. The same one twice hears it once. */
  addOnce(path: string, kind: OneShotKind, listener: WatchListener, signal?: AbortSignal): void {
    if (signal?.aborted) return;
    const known = [...(this.#tables[kind].get(path) ?? [])].find((each) => each.listener === listener);
    const registration = known ?? this.#register(kind, path, listener);
    if (signal === undefined) return;
    const forget = () => this.#unregister(kind, path, registration);
    const { release } = registration;
    registration.release = () => {
      release?.();
      signal.removeEventListener("abort", forget);
    };
    signal.addEventListener("abort", forget, { once: true });
  }

  /** Ends the watches of a kind at a path. */
  remove(path: string, kind: WatchKind): void {
    for (const name of TABLES_OF[kind]) {
      const registrations = this.#tables[name].get(path);
      this.#tables[name].delete(path);
      for (const registration of registrations ?? [])
        tell(registration, { type: "ended", reason: "removed" });
    }
  }

  /** Tells those whose watch covers the path. `path` is the server's, the event holds the user's. */
  dispatch(path: string, event: WatchedEvent): void {
    const notification: WatchNotification = { type: "event", event };
    for (const kind of ENDED_BY[event.type]) {
      const table = this.#tables[kind];
      const registrations = table.size === 0 ? undefined : table.get(path);
      if (registrations === undefined) continue;
      table.delete(path);
      for (const registration of registrations) tell(registration, notification);
    }
    for (const registration of this.#tables.persistent.get(path) ?? []) tell(registration, notification);
    // A recursive watch hears of each znode, and so never of a list of children.
    if (event.type === "childrenChanged") return;
    const recursive = this.#tables.persistentRecursive;
    if (recursive.size === 0) return;
    for (let ancestor: string | undefined = path; ancestor !== undefined; ancestor = parentOf(ancestor)) {
      for (const registration of recursive.get(ancestor) ?? []) tell(registration, notification);
    }
  }

  /** Tells all persistent watches that events may be missing. One-shot watches get theirs late, but get them. */
  tellGap(): void {
    for (const name of ["persistent", "persistentRecursive"] as const) {
      for (const registrations of [...this.#tables[name].values()]) {
        for (const registration of registrations) tell(registration, { type: "gap" });
      }
    }
  }

  /** Tells everyone that it is over, and forgets them. */
  end(reason: "expired" | "closed"): void {
    const registrations = TABLE_NAMES.flatMap((name) =>
      [...this.#tables[name].values()].flatMap((set) => [...set]),
    );
    for (const name of TABLE_NAMES) this.#tables[name].clear();
    for (const registration of registrations) tell(registration, { type: "ended", reason });
  }

  /**
   * What arms all watches again on a new connection, in requests of at most `MAX_SET_WATCHES_BYTES`, and no more than
   * the server takes.
   */
  rearming(relativeZxid: bigint, maxRequestBytes = MAX_SET_WATCHES_BYTES): SetWatches2[] {
    const limit = Math.min(MAX_SET_WATCHES_BYTES, maxRequestBytes) - SET_WATCHES_FIXED_BYTES;
    const requests: SetWatches2[] = [];
    let current: Record<TableName, string[]> | undefined;
    let bytes = 0;
    for (const name of TABLE_NAMES) {
      for (const path of this.#tables[name].keys()) {
        const pathBytes = LENGTH_BYTES + path.length * MAX_UTF8_BYTES_PER_UNIT;
        if (current === undefined || bytes + pathBytes > limit) {
          current = { data: [], exist: [], child: [], persistent: [], persistentRecursive: [] };
          requests.push({ relativeZxid, ...current });
          bytes = 0;
        }
        current[name].push(path);
        bytes += pathBytes;
      }
    }
    return requests;
  }

  #register(name: TableName, path: string, listener: WatchListener): Registration {
    const registration: Registration = { listener };
    const registrations = this.#tables[name].get(path) ?? new Set();
    this.#tables[name].set(path, registrations.add(registration));
    return registration;
  }

  #unregister(name: TableName, path: string, registration: Registration): void {
    const registrations = this.#tables[name].get(path);
    if (registrations?.delete(registration) && registrations.size === 0) this.#tables[name].delete(path);
  }
}

function parentOf(path: string): string | undefined {
  if (path === "/") return undefined;
  const slash = path.lastIndexOf("/");
  return slash === 0 ? "/" : path.slice(0, slash);
}

/** A listener that throws must not break the connection or the other listeners, nor be silent. */
function tell(registration: Registration, notification: WatchNotification): void {
  registration.release?.();
  try {
    registration.listener(notification);
  } catch (error) {
    process.nextTick(() => {
      throw error;
    });
  }
}
