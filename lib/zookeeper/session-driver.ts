import type { ConnectionState, WatchedEvent } from "./api";
import { JuteReader } from "./codec/jute";
import { formatServer, parseConnectString, type ServerAddress, shuffle } from "./connect-string";
import { Connection } from "./connection";
import { Code } from "./error-codes";
import {
  AuthFailedError,
  ClosedError,
  ConnectionLossError,
  NotConnectedError,
  type Outcome,
  SessionExpiredError,
  type ZooKeeperError,
} from "./errors";
import type { ResolvedOptions } from "./options";
import { withoutChroot } from "./paths";
import { Pipeline } from "./pipeline";
import { OpCode, readConnectResponse, readWatcherEvent, writeConnectRequest, Xid } from "./records";
import { Request, type RequestArguments } from "./request";
import {
  initialState,
  nextTickMs,
  type SessionEffect,
  type SessionIdentity,
  type SessionInput,
  type SessionState,
  step,
  type Traffic,
} from "./session";
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
    this.lastZxid = options.minimumZxid;
    this.#suspendedAtMs = options.clock.now();
    this.#pipeline = new Pipeline({
      maxInFlight: options.maxInFlight,
      maxRequestBytes: options.juteMaxBufferBytes,
      send: (bytes) => this.#send(bytes),
    });
    this.#state = initialState({
      serverCount: servers.length,
      sessionTimeoutMs: options.sessionTimeoutMs,
      attemptTimeoutMs: attemptTimeoutMs(options, servers.length),
    });
  }

  get visibleState(): ConnectionState {
    return this.#state.visible;
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
    const tried = this.#servers.map((server) => {
      const name = formatServer(server);
      return `${name} (${this.#failures.get(name) ?? "no answer yet"})`;
    });
    return new NotConnectedError(
      `No ZooKeeper server could be reached within ${waitedMs} ms. Tried: ${tried.join(", ")}. ` +
        "Check that the connect string names your servers, that they run, and that this machine may reach them; " +
        "or raise connectTimeoutMs.",
      "retryable",
    );
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
        this.#prepare();
        break;
      case "openQueue":
        this.#openQueue();
        break;
      case "sendPing":
        this.#pipeline.sendPing();
        break;
      case "sendClose":
        this.#sendInternal(OpCode.closeSession, {}, () => this.#apply({ type: "closeConfirmed" }));
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
    this.#connection = new Connection(server, {
      opened: () => this.#apply({ type: "opened" }),
      received: () => {
        this.#lastReceivedMs = this.options.clock.now();
        this.#unansweredSinceMs = undefined;
      },
      frame: (buffer, offset, end) => this.#onFrame(this.#reader.reset(buffer, offset, end)),
      lost: (reason) => this.#apply({ type: "connectionLost", reason: this.#explain(reason) }),
    });
  }

  #send(bytes: Buffer): boolean {
    this.#lastSentMs = this.options.clock.now();
    this.#unansweredSinceMs ??= this.#lastSentMs;
    return this.#connection?.write(bytes) ?? true;
  }

  /** A server refuses a handshake by hanging up, without a word. */
  #explain(reason: string): string {
    if (this.#state.phase !== "handshake" || reason !== "closed the connection") return reason;
    return (
      "refused the handshake: it is not serving, is behind what this client has seen, " +
      "or has maxClientCnxns connections from this address"
    );
  }

  #sendHandshake(identity: SessionIdentity, sessionTimeoutMs: number): void {
    const request = {
      lastZxidSeen: this.lastZxid,
      sessionTimeoutMs,
      sessionId: identity.id,
      password: identity.password,
    };
    this.#pipeline.sendFrame((writer) => writeConnectRequest(writer, request));
  }

  #onFrame(reader: JuteReader): void {
    if (this.#state.phase === "handshake") this.#onHandshakeReply(reader);
    else this.#onReply(reader);
  }

  #onHandshakeReply(reader: JuteReader): void {
    const { sessionTimeoutMs, sessionId, password } = readConnectResponse(reader);
    this.#apply({ type: "established", identity: { id: sessionId, password }, timeoutMs: sessionTimeoutMs });
  }

  #onReply(reader: JuteReader): void {
    const xid = reader.int();
    const zxid = reader.long();
    const code = reader.int();
    if (zxid > this.lastZxid) this.lastZxid = zxid;
    if (xid === Xid.event) this.#onEvent(zxid, reader);
    else if (code === Code.sessionExpired) this.#apply({ type: "expired" });
    else if (xid !== Xid.ping) this.#pipeline.settle(xid, zxid, code, reader);
  }

  #onEvent(zxid: bigint, reader: JuteReader): void {
    const read = readWatcherEvent(reader);
    if (!read) return;
    const event: WatchedEvent = { type: read.type, path: withoutChroot(this.chroot, read.path), zxid };
    if (this.#state.phase === "preparing") this.#buffered.push({ path: read.path, event });
    else this.watches.dispatch(read.path, event);
  }

  // From a new connection to an open queue

  /** Authentication, then watches: what comes behind them relies on both. */
  #prepare(): void {
    let unconfirmed = 1;
    const confirm = () => {
      unconfirmed -= 1;
      if (unconfirmed === 0) this.#apply({ type: "prepared" });
    };
    for (const { scheme, auth } of this.options.authentication) {
      unconfirmed += 1;
      this.#sendInternal(OpCode.auth, { scheme, data: Buffer.from(auth as string) }, confirm, Xid.auth);
    }
    for (const watches of this.watches.rearming(this.lastZxid)) {
      unconfirmed += 1;
      this.#sendInternal(OpCode.setWatches2, { watches }, confirm, Xid.setWatches);
    }
    confirm();
  }

  #sendInternal(opcode: number, args: RequestArguments, onDone: () => void, xid?: number): void {
    const reject = (error: ZooKeeperError) => this.#onInternalFailure(opcode, error);
    this.#pipeline.sendNow(new Request(opcode, this.chroot, args, onDone, reject), xid);
  }

  #onInternalFailure(opcode: number, error: ZooKeeperError): void {
    if (error instanceof ConnectionLossError || error instanceof ClosedError) return;
    if (opcode === OpCode.auth && error instanceof AuthFailedError) {
      this.#fatal = error;
      void this.close();
      return;
    }
    this.#apply({ type: "connectionLost", reason: error.message });
  }

  #openQueue(): void {
    if (this.#hadSession) this.watches.broadcast({ type: "gap" });
    this.#hadSession = true;
    const buffered = this.#buffered;
    this.#buffered = [];
    for (const { path, event } of buffered) this.watches.dispatch(path, event);
    this.#pipeline.open();
  }

  // Ends

  #failInFlight(reason: string): void {
    this.#suspendedAtMs = this.options.clock.now();
    this.#pipeline.failInFlight((request) => {
      const outcome = outcomeOfSent(request);
      const advice = outcome === "ambiguous" ? " Find out before sending it again." : "";
      return this.#closing !== undefined
        ? new ClosedError(
            `${describe(request)}: the client was closed before the reply came.${advice}`,
            outcome,
          )
        : new ConnectionLossError(
            `${describe(request)}: the connection was lost before the reply came (the server ${reason}).${advice}`,
            outcome,
            Code.connectionLoss,
            request.path,
          );
    });
  }

  #expire(): void {
    this.#suspendedAtMs = this.options.clock.now();
    this.#hadSession = false;
    const errorOf = (outcome: Outcome) => (request: Request) =>
      new SessionExpiredError(
        `${describe(request)}: the session has expired.`,
        request.isWrite ? outcome : "retryable",
        Code.sessionExpired,
        request.path,
      );
    this.#pipeline.failInFlight(errorOf("ambiguous"));
    this.#pipeline.failQueued(errorOf("retryable"));
    this.watches.end("expired");
  }

  #finish(): void {
    this.#failInFlight("was closed");
    this.#pipeline.failQueued(() => this.closedError());
    this.watches.end("closed");
    this.#onClosed();
  }
}

function outcomeOfSent(request: Request): Outcome {
  return request.isWrite ? "ambiguous" : "retryable";
}

function describe(request: Request): string {
  return request.path === undefined ? request.name : `${request.name} of ${request.path}`;
}

/** Every server gets its turn while `connect` waits, and while the session lives. */
function attemptTimeoutMs(options: ResolvedOptions, serverCount: number): number {
  const share = Math.min(options.connectTimeoutMs, (options.sessionTimeoutMs * 2) / 3) / serverCount;
  return Math.round(Math.min(Math.max(share, MIN_ATTEMPT_TIMEOUT_MS), MAX_ATTEMPT_TIMEOUT_MS));
}
