/**
 * A line of clients before a znode: each has an ephemeral sequential child, and the one with the lowest number
 * has its turn. Who waits watches only the one before it, so a place that is left wakes one client, not all.
 */
import {
  type Acl,
  ConnectionLossError,
  NodeExistsError,
  NoNodeError,
  NotConnectedError,
  SessionExpiredError,
  type ZooKeeper,
  ZooKeeperError,
} from "../index";

/** What standing in line needs of a client. */
export type LineClient = Pick<
  ZooKeeper,
  "state" | "create" | "delete" | "exists" | "getChildren" | "onState"
>;

export interface LineOptions {
  /** What others see of this client, such as its name (default: nothing). */
  readonly data?: Uint8Array;
  readonly acl?: readonly Acl[];
  /** Ends the waiting; the place is left. */
  readonly signal?: AbortSignal;
  /**
   * What a suspended connection means to a turn. `lose`: it is over, before the session can expire and another
   * client have its turn. `keep`: it lasts until the session has expired, and this client may learn of that late,
   * so all that it does must carry the fence (default: lose).
   */
  readonly whenSuspended?: "lose" | "keep";
}

/** A turn. Others get theirs after `leave`, or when this client's session ends. */
export interface Turn {
  readonly path: string;
  /** The znode's czxid: greater than that of every turn before. Hand it on with what is written in this turn. */
  readonly fence: bigint;
  /** Aborts when the turn is over without `leave`; `reason` says why. */
  readonly lost: AbortSignal;
  /** Gives the turn up. Never rejects. */
  leave(): Promise<void>;
}

const SEQUENCE = /\d{10}$/;

/** Names of the children in the order of the line, whatever is before the number. */
export function inOrder(children: readonly string[]): string[] {
  return children
    .filter((name) => SEQUENCE.test(name))
    .sort((one, other) => Number(SEQUENCE.exec(one)![0]) - Number(SEQUENCE.exec(other)![0]));
}

/** Reads on over broken connections: the session decides when it is over. Rejects with the signal's reason. */
export async function persistently<T>(read: () => Promise<T>, signal?: AbortSignal): Promise<T> {
  for (;;) {
    signal?.throwIfAborted();
    try {
      return await read();
    } catch (error) {
      signal?.throwIfAborted();
      if (!(error instanceof ConnectionLossError || error instanceof NotConnectedError)) throw error;
    }
  }
}

/** Creates what is missing of a path, as persistent znodes. */
export async function ensurePath(
  client: Pick<ZooKeeper, "create">,
  path: string,
  acl?: readonly Acl[],
): Promise<void> {
  try {
    await client.create(path, undefined, { acl });
  } catch (error) {
    if (error instanceof NodeExistsError) return;
    if (error instanceof ConnectionLossError) return ensurePath(client, path, acl);
    if (!(error instanceof NoNodeError)) throw error;
    await ensurePath(client, path.slice(0, path.lastIndexOf("/")), acl);
    await ensurePath(client, path, acl);
  }
}

/** Joins the line at `parent`, which is created if it is missing, and resolves when it is this client's turn. */
export async function takeTurn(client: LineClient, parent: string, options: LineOptions): Promise<Turn> {
  options.signal?.throwIfAborted();
  const place = await Place.take(client, parent, options);
  try {
    await place.untilFirst();
    return place;
  } catch (error) {
    await place.leave();
    throw error;
  }
}

class Place implements Turn {
  readonly #over = new AbortController();
  readonly #left = new AbortController();
  readonly #stopListening: () => void;
  #hasTurn = false;

  private constructor(
    private readonly client: LineClient,
    private readonly parent: string,
    readonly path: string,
    readonly fence: bigint,
    private readonly options: LineOptions,
  ) {
    this.#stopListening = client.onState((state) => {
      if (state === "lost" || state === "closed") this.#lose(`the session is ${state}`);
      else if (state === "suspended" && this.#hasTurn && options.whenSuspended !== "keep") {
        this.#lose("the connection is suspended");
        void this.leave();
      }
    });
  }

  static async take(client: LineClient, parent: string, options: LineOptions): Promise<Place> {
    const { data, acl } = options;
    const create = { mode: "ephemeral-sequential", withProtection: true, acl } as const;
    const join = () => client.create(`${parent === "/" ? "" : parent}/turn-`, data, create);
    const { path, stat } = await join().catch(async (error) => {
      if (!(error instanceof NoNodeError)) throw error;
      await ensurePath(client, parent, acl);
      return join();
    });
    const place = new Place(client, parent, path, stat.czxid, options);
    try {
      // An expiry between the create and the listening would be heard by nobody.
      if ((await persistently(() => client.exists(path))) === null) place.#lose("the session is lost");
      return place;
    } catch (error) {
      await place.leave();
      throw error;
    }
  }

  get lost(): AbortSignal {
    return this.#over.signal;
  }

  async untilFirst(): Promise<void> {
    const signal = this.options.signal
      ? AbortSignal.any([this.#over.signal, this.options.signal])
      : this.#over.signal;
    const name = this.path.slice(this.path.lastIndexOf("/") + 1);
    for (;;) {
      const { children } = await persistently(() => this.client.getChildren(this.parent, { signal }), signal);
      const line = inOrder(children);
      const at = line.indexOf(name);
      if (at < 0) throw this.#gone();
      if (at === 0) break;
      await this.#untilChanged(`${this.parent === "/" ? "" : this.parent}/${line[at - 1]}`, signal);
    }
    await persistently(() => this.#watchOwn(), signal);
    this.#hasTurn = true;
    if (this.client.state !== "connected" && this.options.whenSuspended !== "keep") {
      this.#lose("the connection is suspended");
    }
    signal.throwIfAborted();
  }

  async leave(): Promise<void> {
    this.#left.abort();
    this.#stopListening();
    const isOver = () => this.client.state === "closed";
    while (!isOver()) {
      try {
        await this.client.delete(this.path);
        return;
      } catch (error) {
        const isTransient = error instanceof ConnectionLossError || error instanceof NotConnectedError;
        if (!isTransient) return;
      }
    }
  }

  /** Resolves with the next change of the znode, at once if it is not there. */
  async #untilChanged(path: string, signal: AbortSignal): Promise<void> {
    let onChange = (): void => undefined;
    const changed = new Promise<void>((done) => {
      onChange = done;
    });
    const stat = await persistently(
      () => this.client.exists(path, { watch: () => onChange(), watchSignal: signal, signal }),
      signal,
    );
    if (stat === null) return;
    const onAbort = () => onChange();
    signal.addEventListener("abort", onAbort, { once: true });
    await changed;
    signal.removeEventListener("abort", onAbort);
    signal.throwIfAborted();
  }

  /** Who deletes the znode of a turn ends it. */
  async #watchOwn(): Promise<void> {
    const listener = () => {
      if (this.#over.signal.aborted) return;
      void persistently(() => this.#watchOwn(), this.#over.signal).catch(() => undefined);
    };
    const options = { watch: listener, watchSignal: this.#left.signal };
    if ((await this.client.exists(this.path, options)) === null) this.#lose("its znode was deleted");
  }

  #lose(why: string): void {
    // The znode that goes with the leaving is no loss.
    if (this.#left.signal.aborted) return;
    this.#over.abort(
      why.startsWith("the session")
        ? new SessionExpiredError(`The turn at ${this.parent} is over: ${why}.`, "retryable")
        : new ZooKeeperError(`The turn at ${this.parent} is over: ${why}.`, "retryable"),
    );
  }

  #gone(): ZooKeeperError {
    this.#lose("its znode was deleted");
    return this.#over.signal.reason;
  }
}
