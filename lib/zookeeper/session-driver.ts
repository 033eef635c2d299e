import type { ConnectionState, WatchedEvent } from "./api";
import { JuteReader } from "./codec/jute";
import { formatServer, parseConnectString, type ServerAddress, shuffle } from "./connect-string";
import { ask, Connection, type ConnectionListener, prepareTls, type Transport } from "./connection";
import { Code } from "./error-codes";
import {
  AuthFailedError,
  ClosedError,
  ConnectionLossError,
  type NotConnectedError,
  type ZooKeeperError,
} from "./errors";
import { Handshake, REFUSED_HANDSHAKE } from "./handshake";
import type { Authentication, ResolvedOptions } from "./options";
import { withoutChroot } from "./paths";
import { Pipeline } from "./pipeline";
import { Preparation } from "./preparation";
import { OpCode, readWatcherEvent, Xid } from "./records";
import { Request } from "./request";
import {
  initialState,
  NO_SESSION,
  nextTickMs,
  type SessionEffect,
  type SessionIdentity,
  type SessionInput,
  type SessionState,
  step,
  type Traffic,
} from "./session";
import { closedBeforeReply, connectionLoss, notConnected, sessionExpired } from "./session-errors";
import { SessionTicket } from "./session-ticket";
import { WatchRegistry } from "./watches";

const MIN_ATTEMPT_TIMEOUT_MS = 250;
const MAX_ATTEMPT_TIMEOUT_MS = 5_000;

interface BufferedEvent {
  readonly path: string;
  readonly event: WatchedEvent;
}

/** Carries out what the session's state machine decides, and feeds it with what happens. */
export class SessionDriver {
  readonly chroot: string;
  readonly watches = new WatchRegistry();
  lastZxid: bigint;
  /**
   * Up to here every one-shot watch was told of changes: what the next setWatches is relative to. Events do not move
   * it, for others of the same multi may follow, nor do replies before all watches are armed.
   */
  #watchedZxid: bigint;
  readonly #authentications: Authentication[];
  readonly #transport: Transport;
  readonly #handshake: Handshake;
  readonly #preparation: Preparation;
  #state: SessionState;
  readonly #inputs: SessionInput[] = [];
  #connection: Connection | undefined;
  #timer: unknown;
  #lastSentMs = 0;
  #lastReceivedMs = 0;
  /** When the first bytes were sent that nothing has been received after. */
  #unansweredSinceMs: number | undefined;
  #suspendedAtMs: number;
  /** Events that came while watches were being armed: they are told after the gap. */
  #buffered: BufferedEvent[] = [];
  #hadSession = false;
  #fatal: ZooKeeperError | undefined;
  #closing: Promise<void> | undefined;
  #onClosed: () => void = () => undefined;
  readonly #servers: readonly ServerAddress[];
  readonly #failures = new Map<string, string>();
  readonly #pipeline: Pipeline;
  readonly #reader = new JuteReader();

  constructor(
    private readonly options: ResolvedOptions,
    private readonly announce: (state: ConnectionState) => void,
  ) {
    const { servers, chroot } = parseConnectString(options.connectString);
    this.chroot = chroot;
    this.#servers = shuffle(servers, options.random);
    const resumed = options.session && SessionTicket.open(options.session);
    this.lastZxid = max(options.minimumZxid, resumed?.lastZxid ?? 0n);
    this.#watchedZxid = this.lastZxid;
    this.#authentications = [...options.authentication];
    this.#suspendedAtMs = options.clock.now();
    this.#pipeline = new Pipeline({
      maxInFlight: options.maxInFlight,
      maxInFlightBytes: options.maxInFlightBytes,
      maxQueuedBytes: options.maxQueuedBytes,
      maxRequestBytes: options.juteMaxBufferBytes,
      send: (bytes) => this.#send(bytes),
    });
    this.#handshake = new Handshake({
      pipeline: this.#pipeline,
      canBeReadOnly: options.canBeReadOnly,
      lastZxid: () => this.lastZxid,
      askMode: (server) => this.#askMode(server),
      failures: this.#failures,
    });
    this.#preparation = new Preparation({
      pipeline: this.#pipeline,
      watches: this.watches,
      sasl: options.sasl,
      authentications: this.#authentications,
      maxRequestBytes: options.juteMaxBufferBytes,
      onDone: () => this.#apply({ type: "prepared" }),
      onFailure: (error) => this.#onInternalFailure(error),
    });
    const attempt = attemptTimeoutMs(options, servers.length);
    this.#transport = {
      tls: options.tls && prepareTls(options.tls),
      lookup: options.lookup,
      addressTimeoutMs: Math.ceil(attempt / 2),
      clock: options.clock,
    };
    const sessionOptions = {
      serverCount: servers.length,
      sessionTimeoutMs: options.sessionTimeoutMs,
      attemptTimeoutMs: attempt,
    };
    this.#state = initialState(sessionOptions, resumed?.identity);
  }

  get visibleState(): ConnectionState {
    return this.#state.visible;
  }

  get isReadOnly(): boolean {
    return this.#state.search !== undefined && this.#state.visible === "connected";
  }

  /** The server in use; undefined while there is none. */
  get server(): string | undefined {
    return this.#state.visible === "connected" ? formatServer(this.#servers[this.#state.server]!) : undefined;
  }

  /** Whether the session is the one of the ticket that the client was opened with. */
  get isResumed(): boolean {
    const { session } = this.options;
    return session !== undefined && SessionTicket.open(session).identity.id === this.#state.identity.id;
  }

  start(): void {
    this.#apply({ type: "start" });
  }

  submit(request: Request): void {
    if (this.#closing !== undefined || this.#state.phase === "closed") {
      request.reject(this.closedError());
      return;
    }
    if (this.#state.phase !== "ready") request.waitingSinceMs = this.options.clock.now();
    this.#pipeline.submit(request);
    if (this.#state.phase !== "ready") this.#schedule();
  }

  close(): Promise<void> {
    this.#closing ??= new Promise((done) => {
      this.#onClosed = done;
      this.#pipeline.failQueued(() => this.closedError());
      this.#apply({ type: "close" });
    });
    return this.#state.phase === "closed" ? Promise.resolve() : this.#closing;
  }

  /** For an operation that was never sent. */
  closedError(): ZooKeeperError {
    return this.#fatal ?? new ClosedError("The ZooKeeper client is closed.", "terminal");
  }

  notConnectedError(waitedMs: number): NotConnectedError {
    return notConnected(waitedMs, this.#servers, this.#failures);
  }

  serverVersions(timeoutMs: number): Promise<{ server: string; version: string | undefined }[]> {
    return Promise.all(
      this.#servers.map(async (server) => {
        const answer = await ask(server, this.#transport, "srvr", timeoutMs);
        const version = /^Zookeeper version: (\d+\.\d+\.\d+)/im.exec(answer ?? "");
        return { server: formatServer(server), version: version?.[1] };
      }),
    );
  }

  connectionLimits(timeoutMs: number): Promise<{ server: string; perAddress: number | undefined }[]> {
    return Promise.all(
      this.#servers.map(async (server) => {
        const answer = await ask(server, this.#transport, "conf", timeoutMs);
        const limit = /^maxClientCnxns=(\d+)/im.exec(answer ?? "")?.[1];
        return { server: formatServer(server), perAddress: limit === undefined ? undefined : Number(limit) };
      }),
    );
  }

  /** The server has accepted these credentials: every later connection begins with them. */
  keepAuthentication(authentication: Authentication): void {
    const isKnown = this.#authentications.some((known) => isSame(known, authentication));
    if (!isKnown) this.#authentications.push(authentication);
  }

  /** Leaves the session to whoever has the ticket: waits for what was sent, and hangs up without ending it. */
  handOver(): Promise<SessionTicket> {
    const { identity } = this.#state;
    const isClosed = this.#closing !== undefined || this.#state.phase === "closed";
    if (isClosed || identity.id === NO_SESSION.id) {
      return Promise.reject(isClosed ? this.closedError() : this.notConnectedError(0));
    }
    return new Promise((done) => {
      this.#closing = new Promise((closed) => {
        this.#onClosed = closed;
      });
      this.#pipeline.failQueued(() => this.closedError());
      const detach = () => {
        const ticket = SessionTicket.of(identity, this.lastZxid, this.#state.timeoutMs);
        this.#apply({ type: "detach" });
        done(ticket);
      };
      if (this.#state.phase !== "ready") return detach();
      // Answered after everything before it; or the connection breaks, and then there is nothing to wait for.
      this.#pipeline.sendNow(new Request(OpCode.exists, "", { path: "/" }, detach, detach));
    });
  }

  get #traffic(): Traffic {
    return {
      lastSentMs: this.#lastSentMs,
      lastReceivedMs: this.#lastReceivedMs,
      unansweredSinceMs: this.#unansweredSinceMs,
    };
  }

  // The state machine's loop

  /** An input that comes up while effects are carried out, say from a listener that closes, waits until they are. */
  #apply(input: SessionInput): void {
    this.#inputs.push(input);
    if (this.#inputs.length > 1) return;
    const { clock, random } = this.options;
    for (let next: SessionInput | undefined = input; next; next = this.#inputs[0]) {
      const { state, effects } = step(this.#state, next, clock.now(), random());
      this.#state = state;
      for (const effect of effects) this.#perform(effect);
      this.#inputs.shift();
    }
    this.#schedule();
  }

  #perform(effect: SessionEffect): void {
    switch (effect.type) {
      case "connect":
        this.#connect(this.#servers[effect.server]!);
        break;
      case "sendHandshake":
        this.#sendHandshake(effect.identity, effect.sessionTimeoutMs);
        break;
      case "prepare":
        this.#preparation.begin(this.#watchedZxid);
        break;
      case "openQueue":
        this.#openQueue();
        break;
      case "sendPing":
        this.#pipeline.sendPing();
        break;
      case "sendClose":
        this.#sendClose();
        break;
      case "askWritable":
        void this.#askWritable(effect.server);
        break;
      case "destroySocket":
        this.#connection?.destroy();
        this.#connection = undefined;
        this.#buffered = [];
        break;
      case "failInFlight":
        this.#failInFlight(effect.reason);
        break;
      case "noteFailure":
        this.#failures.set(formatServer(this.#servers[effect.server]!), effect.reason);
        break;
      case "expire":
        this.#expire();
        break;
      case "announce":
        // Not each failed attempt: what waits for a connection would then wait for ever.
        if (effect.state !== "connected") this.#suspendedAtMs = this.options.clock.now();
        this.announce(effect.state);
        break;
      case "finish":
        this.#finish();
        break;
    }
  }

  /** One timer for everything: pings, silence, pauses, and requests that wait too long for a connection. */
  #schedule(): void {
    const { clock } = this.options;
    clock.clearTimeout(this.#timer);
    const dueMs = Math.min(
      nextTickMs(this.#state, this.#traffic) ?? Number.POSITIVE_INFINITY,
      this.#waitingDeadlineMs() ?? Number.POSITIVE_INFINITY,
    );
    if (dueMs === Number.POSITIVE_INFINITY) return;
    this.#timer = clock.setTimeout(this.#onTimer, Math.max(0, Math.ceil(dueMs - clock.now())));
  }

  /** Bytes that already lie in the kernel are read first, so a busy process does not mistake itself for a silent server. */
  readonly #onTimer = (): void => {
    setImmediate(this.#tick);
  };

  readonly #tick = (): void => {
    if (this.#state.phase === "closed") return;
    const deadlineMs = this.#waitingDeadlineMs();
    if (deadlineMs !== undefined && this.options.clock.now() >= deadlineMs) this.#failWaiting();
    this.#apply({ type: "tick", traffic: this.#traffic });
  };

  /** When the oldest request has waited long enough for a connection; undefined while there is one. */
  #waitingDeadlineMs(): number | undefined {
    const since = this.#pipeline.oldestWaitingSinceMs;
    if (since === undefined || this.#state.phase === "ready") return undefined;
    return Math.max(since, this.#suspendedAtMs) + this.options.connectTimeoutMs;
  }

  #failWaiting(): void {
    const { clock, connectTimeoutMs } = this.options;
    this.#pipeline.failWaitingSince(clock.now() - connectTimeoutMs, () =>
      this.notConnectedError(connectTimeoutMs),
    );
  }

  // The connection

  #connect(server: ServerAddress): void {
    this.#lastSentMs = this.#lastReceivedMs = this.options.clock.now();
    this.#unansweredSinceMs = undefined;
    const listener: ConnectionListener = {
      opened: () => this.#apply({ type: "opened" }),
      received: () => {
        this.#lastReceivedMs = this.options.clock.now();
        this.#unansweredSinceMs = undefined;
      },
      frame: (buffer, offset, end) => this.#onFrame(this.#reader.reset(buffer, offset, end)),
      lost: (reason) => this.#apply({ type: "connectionLost", reason: this.#explain(reason) }),
    };
    try {
      this.#connection = new Connection(server, this.#transport, listener);
    } catch (error) {
      // What a `lookup` of the user's throws, say.
      listener.lost((error as Error).message);
    }
  }

  #send(bytes: Buffer): boolean {
    this.#lastSentMs = this.options.clock.now();
    this.#unansweredSinceMs ??= this.#lastSentMs;
    return this.#connection?.write(bytes) ?? true;
  }

  #explain(reason: string): string {
    if (this.#state.phase !== "handshake" || reason !== "closed the connection") return reason;
    return REFUSED_HANDSHAKE;
  }

  #sendHandshake(identity: SessionIdentity, sessionTimeoutMs: number): void {
    const connection = this.#connection;
    const isCurrent = () => this.#connection === connection && this.#state.phase === "handshake";
    const server = this.#servers[this.#state.server]!;
    this.#handshake.send(server, identity, sessionTimeoutMs, isCurrent);
  }

  #onFrame(reader: JuteReader): void {
    if (this.#state.phase === "handshake") this.#onHandshakeReply(reader);
    else this.#onReply(reader);
  }

  #onHandshakeReply(reader: JuteReader): void {
    const { sessionTimeoutMs, sessionId, password, isReadOnly } = this.#handshake.read(reader);
    const identity = { id: sessionId, password };
    this.#apply({ type: "established", identity, timeoutMs: sessionTimeoutMs, isReadOnly });
  }

  #onReply(reader: JuteReader): void {
    const xid = reader.int();
    const zxid = reader.long();
    const code = reader.int();
    if (xid === Xid.event) {
      this.#onEvent(zxid, reader);
      return;
    }
    if (code === Code.sessionExpired) {
      this.#apply({ type: "expired" });
      return;
    }
    const wasReady = this.#state.phase === "ready";
    // Throws where the reply is not the one that is due, whose zxid must not be believed either: a client that has
    // "seen" a transaction of the far future is refused by every server.
    if (xid !== Xid.ping) this.#pipeline.settle(xid, zxid, code, reader);
    if (zxid > this.lastZxid) this.lastZxid = zxid;
    if (zxid > this.#watchedZxid && wasReady) this.#watchedZxid = zxid;
  }

  #onEvent(zxid: bigint, reader: JuteReader): void {
    const read = readWatcherEvent(reader);
    if (!read) return;
    if (zxid > this.lastZxid) this.lastZxid = zxid;
    const event: WatchedEvent = { type: read.type, path: withoutChroot(this.chroot, read.path), zxid };
    if (this.#state.phase === "preparing") this.#buffered.push({ path: read.path, event });
    else this.watches.dispatch(read.path, event);
  }

  // From a new connection to an open queue

  #sendClose(): void {
    const onDone = () => this.#apply({ type: "closeConfirmed" });
    const onFailure = (error: ZooKeeperError) => this.#onInternalFailure(error);
    this.#pipeline.sendNow(new Request(OpCode.closeSession, this.chroot, {}, onDone, onFailure));
  }

  #askMode(server: ServerAddress): Promise<string | undefined> {
    return ask(server, this.#transport, "isro", this.#state.options.attemptTimeoutMs);
  }

  async #askWritable(server: number): Promise<void> {
    const mode = await this.#askMode(this.#servers[server]!);
    if (mode === "rw") this.#apply({ type: "writableFound", server });
  }

  #onInternalFailure(error: ZooKeeperError): void {
    if (error instanceof ConnectionLossError || error instanceof ClosedError) return;
    if (error instanceof AuthFailedError) {
      this.#fatal = error;
      void this.close();
      return;
    }
    this.#apply({ type: "connectionLost", reason: error.message });
  }

  #openQueue(): void {
    if (this.#hadSession) this.watches.tellGap();
    this.#hadSession = true;
    const buffered = this.#buffered;
    this.#buffered = [];
    for (const { path, event } of buffered) this.watches.dispatch(path, event);
    this.#pipeline.open();
  }

  // Ends

  #failInFlight(reason: string): void {
    const isClosing = this.#closing !== undefined;
    this.#pipeline.failInFlight((request) =>
      isClosing ? closedBeforeReply(request) : connectionLoss(request, reason),
    );
  }

  #expire(): void {
    this.#hadSession = false;
    this.#pipeline.failInFlight((request) => sessionExpired(request, true));
    this.#pipeline.failQueued((request) => sessionExpired(request, false));
    this.watches.end("expired");
  }

  #finish(): void {
    this.#failInFlight("was closed");
    this.#pipeline.failQueued(() => this.closedError());
    this.watches.end("closed");
    this.#onClosed();
  }
}

function isSame(one: Authentication, other: Authentication): boolean {
  const bytesOf = ({ auth }: Authentication) => Buffer.from(auth as string);
  return one.scheme === other.scheme && bytesOf(one).equals(bytesOf(other));
}

function max(one: bigint, other: bigint): bigint {
  return one > other ? one : other;
}

/** Every server gets its turn while `connect` waits, and while the session lives. */
function attemptTimeoutMs(options: ResolvedOptions, serverCount: number): number {
  const share = Math.min(options.connectTimeoutMs, (options.sessionTimeoutMs * 2) / 3) / serverCount;
  return Math.round(Math.min(Math.max(share, MIN_ATTEMPT_TIMEOUT_MS), MAX_ATTEMPT_TIMEOUT_MS));
}
