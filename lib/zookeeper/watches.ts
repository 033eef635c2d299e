import type { WatchedEvent, WatchListener, WatchNotification } from "./api";
import type { SetWatches2 } from "./records";

export type WatchMode = "persistent" | "persistentRecursive";

interface Registration {
  readonly path: string;
  readonly mode: WatchMode;
  readonly listener: WatchListener;
}

/** A setWatches2 stays well below the server's jute.maxbuffer, else the server drops the connection for ever. */
export const MAX_SET_WATCHES_BYTES = 128 * 1024;
const LENGTH_BYTES = 4;
const MAX_UTF8_BYTES_PER_UNIT = 3;

/** The persistent watches of a session, by the server's paths (with chroot), and whom to tell what. */
export class WatchRegistry {
  readonly #byPath: Record<WatchMode, Map<string, Set<Registration>>> = {
    persistent: new Map(),
    persistentRecursive: new Map(),
  };

  get isEmpty(): boolean {
    return this.#byPath.persistent.size === 0 && this.#byPath.persistentRecursive.size === 0;
  }

  /** Registers a listener; returns what takes it away. */
  add(path: string, mode: WatchMode, listener: WatchListener): () => void {
    const registration: Registration = { path, mode, listener };
    const paths = this.#byPath[mode];
    const registrations = paths.get(path) ?? new Set();
    paths.set(path, registrations.add(registration));
    return () => this.#remove(registration);
  }

  #remove(registration: Registration): void {
    const paths = this.#byPath[registration.mode];
    const registrations = paths.get(registration.path);
    registrations?.delete(registration);
    if (registrations?.size === 0) paths.delete(registration.path);
  }

  /** Tells those whose watch covers the path. `path` is the server's, the event holds the user's. */
  dispatch(path: string, event: WatchedEvent): void {
    const notification: WatchNotification = { type: "event", event };
    for (const registration of this.#byPath.persistent.get(path) ?? []) tell(registration, notification);
    // A recursive watch hears of each znode, and so never of a list of children.
    if (event.type === "childrenChanged") return;
    const recursive = this.#byPath.persistentRecursive;
    if (recursive.size === 0) return;
    for (let ancestor: string | undefined = path; ancestor !== undefined; ancestor = parentOf(ancestor)) {
      for (const registration of recursive.get(ancestor) ?? []) tell(registration, notification);
    }
  }

  /** Tells everyone. */
  broadcast(notification: WatchNotification): void {
    for (const paths of Object.values(this.#byPath)) {
      for (const registrations of paths.values()) {
        for (const registration of registrations) tell(registration, notification);
      }
    }
  }

  /** Tells everyone that it is over, and forgets them. */
  end(reason: "expired" | "closed"): void {
    const listeners = Object.values(this.#byPath).flatMap((paths) =>
      [...paths.values()].flatMap((set) => [...set]),
    );
    for (const paths of Object.values(this.#byPath)) paths.clear();
    for (const registration of listeners) tell(registration, { type: "ended", reason });
  }

  /** What arms all watches again on a new connection, in requests of at most `MAX_SET_WATCHES_BYTES`. */
  rearming(relativeZxid: bigint): SetWatches2[] {
    const requests: SetWatches2[] = [];
    let current: Record<WatchMode, string[]> | undefined;
    let bytes = 0;
    for (const mode of ["persistent", "persistentRecursive"] as const) {
      for (const path of this.#byPath[mode].keys()) {
        const pathBytes = LENGTH_BYTES + path.length * MAX_UTF8_BYTES_PER_UNIT;
        if (current === undefined || bytes + pathBytes > MAX_SET_WATCHES_BYTES) {
          current = { persistent: [], persistentRecursive: [] };
          requests.push({ relativeZxid, ...current });
          bytes = 0;
        }
        current[mode].push(path);
        bytes += pathBytes;
      }
    }
    return requests;
  }
}

function parentOf(path: string): string | undefined {
  if (path === "/") return undefined;
  const slash = path.lastIndexOf("/");
  return slash === 0 ? "/" : path.slice(0, slash);
}

/** A listener that throws must not break the connection or the other listeners, nor be silent. */
function tell(registration: Registration, notification: WatchNotification): void {
  try {
    registration.listener(notification);
  } catch (error) {
    process.nextTick(() => {
      throw error;
    });
  }
}
