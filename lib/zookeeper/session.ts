/**
 * The session as a pure state machine: `(state, input, nowMs, jitter) -> { state, effects }`. It decides what
 * happens when; the client does it. Requests and replies of users pass it by, so it costs them nothing.
 *
 *   waiting ─▶ connecting ─▶ handshake ─▶ preparing ─▶ ready ─▶ closing ─▶ closed
 *      ▲            │            │            │          │
 *      └────────────┴────────────┴────────────┴──────────┘  connection lost: the next server, after a pause
 *
 * `preparing` is authentication and the arming of watches, before any queued request is sent.
 */
import type { ConnectionState } from "./api";

export type Phase = "waiting" | "connecting" | "handshake" | "preparing" | "ready" | "closing" | "closed";

/** What identifies a session to the servers. Never shown: the password follows from the id. */
export interface SessionIdentity {
  readonly id: bigint;
  readonly password: Uint8Array;
}

export interface SessionOptions {
  readonly serverCount: number;
  readonly sessionTimeoutMs: number;
  /** How long one server may take to accept a connection, and again to answer the handshake. */
  readonly attemptTimeoutMs: number;
}

/** While the server in use is read-only: when another is asked next whether it takes writes. */
interface Search {
  readonly atMs: number;
  readonly delayMs: number;
  readonly server: number;
}

export interface SessionState {
  readonly options: SessionOptions;
  readonly phase: Phase;
  readonly visible: ConnectionState;
  readonly identity: SessionIdentity;
  /** What the server granted, or what is asked for as long as no server has. */
  readonly timeoutMs: number;
  /** Which server is in use or to be tried next. */
  readonly server: number;
  /** Attempts since a connection last held; the pause between rounds grows with them. */
  readonly failures: number;
  /** When the phase ends by itself: a pause is over, or patience is. */
  readonly deadlineMs: number;
  readonly readySinceMs: number;
  /** Present while the server in use is read-only. */
  readonly search: Search | undefined;
}

/** When bytes last went over the connection. */
export interface Traffic {
  readonly lastSentMs: number;
  readonly lastReceivedMs: number;
  /** When the first bytes were sent that nothing has been received after; undefined when there are none. */
  readonly unansweredSinceMs: number | undefined;
}

export type SessionInput =
  | { readonly type: "start" }
  | { readonly type: "opened" }
  | { readonly type: "connectionLost"; readonly reason: string }
  | {
      readonly type: "established";
      readonly identity: SessionIdentity;
      readonly timeoutMs: number;
      readonly isReadOnly?: boolean;
    }
  | { readonly type: "prepared" }
  /** A server that takes writes was found while the one in use does not. */
  | { readonly type: "writableFound"; readonly server: number }
  /** A reply that says that the session is gone, on a connection that is still there. */
  | { readonly type: "expired" }
  | { readonly type: "tick"; readonly traffic: Traffic }
  | { readonly type: "close" }
  /** Leave without ending the session at the server. */
  | { readonly type: "detach" }
  /** The server has confirmed the end of the session. */
  | { readonly type: "closeConfirmed" };

export type SessionEffect =
  | { readonly type: "connect"; readonly server: number }
  | { readonly type: "sendHandshake"; readonly identity: SessionIdentity; readonly sessionTimeoutMs: number }
  /** Send authentication and watches; answer `prepared` when the server has confirmed all. */
  | { readonly type: "prepare" }
  /** Watches are armed: say that there was a gap, then let requests through. */
  | { readonly type: "openQueue" }
  | { readonly type: "sendPing" }
  /** Ask a server whether it takes writes; answer `writableFound` if it does. */
  | { readonly type: "askWritable"; readonly server: number }
  | { readonly type: "sendClose" }
  | { readonly type: "destroySocket" }
  /** What was sent gets no reply any more. */
  | { readonly type: "failInFlight"; readonly reason: string }
  | { readonly type: "noteFailure"; readonly server: number; readonly reason: string }
  | { readonly type: "expire" }
  | { readonly type: "announce"; readonly state: ConnectionState }
  | { readonly type: "finish" };

export interface Step {
  readonly state: SessionState;
  readonly effects: readonly SessionEffect[];
}

const PASSWORD_BYTES = 16;
export const NO_SESSION: SessionIdentity = { id: 0n, password: new Uint8Array(PASSWORD_BYTES) };

/** The pause after each server was tried once, doubled with every further round. */
export const FIRST_PAUSE_MS = 50;
export const LONGEST_PAUSE_MS = 5_000;
/** A connection that held this long was a good one, so the next loss begins with a short pause again. */
export const STABLE_AFTER_MS = 1_000;
/** In rounds: a connection that was accepted and broke at once is tried again after 100 ms at the latest. */
const MAX_FAILURES_WHILE_ACCEPTED = 2;
/** Between two questions for a server that takes writes; doubled with each. */
export const FIRST_SEARCH_DELAY_MS = 100;
export const LONGEST_SEARCH_DELAY_MS = 10_000;
/** How long a close waits for the server's word. */
export const CLOSE_TIMEOUT_MS = 2_000;
const LONGEST_PING_INTERVAL_MS = 10_000;

/** A server that has been silent for this long is given up; as in Java's client. */
export function readTimeoutMs(state: SessionState): number {
  return (state.timeoutMs * 2) / 3;
}

/** An idle connection is pinged this often, so that an answer has as long again to come. */
export function pingIntervalMs(state: SessionState): number {
  return Math.min(readTimeoutMs(state) / 2, LONGEST_PING_INTERVAL_MS);
}

export function initialState(options: SessionOptions, identity: SessionIdentity = NO_SESSION): SessionState {
  return {
    options,
    phase: "waiting",
    visible: "connecting",
    identity,
    timeoutMs: options.sessionTimeoutMs,
    server: 0,
    failures: 0,
    deadlineMs: 0,
    readySinceMs: 0,
    search: undefined,
  };
}

export function step(state: SessionState, input: SessionInput, nowMs: number, jitter: number): Step {
  if (state.phase === "closed") return { state, effects: [] };
  switch (input.type) {
    case "start":
      return startConnecting(state, nowMs);
    case "opened":
      return onOpened(state, nowMs);
    case "connectionLost":
      return onConnectionLost(state, input.reason, nowMs, jitter);
    case "established":
      return onEstablished(state, input, nowMs, jitter);
    case "prepared":
      return onPrepared(state, nowMs);
    case "expired":
      return onExpired(state, nowMs, jitter);
    case "tick":
      return onTick(state, input.traffic, nowMs, jitter);
    case "close":
      return onClose(state, nowMs);
    case "writableFound":
      return onWritableFound(state, input.server, nowMs, jitter);
    case "detach":
      return finish(state, []);
    case "closeConfirmed":
      return finish(state, []);
  }
}

/** When `tick` is due next; undefined once the session is closed. */
export function nextTickMs(state: SessionState, traffic: Traffic): number | undefined {
  if (state.phase === "closed") return undefined;
  if (state.phase !== "ready" && state.phase !== "preparing") return state.deadlineMs;
  const silenceEndsMs = silenceDeadlineMs(state, traffic) ?? Number.POSITIVE_INFINITY;
  const searchMs = state.search?.atMs ?? Number.POSITIVE_INFINITY;
  return Math.min(traffic.lastSentMs + pingIntervalMs(state), silenceEndsMs, searchMs);
}

/**
 * When silence means that the connection is dead. Only a server that was asked something can be silent: a process
 * that was busy for long finds no bytes either, since it sent no ping, and must not blame the server.
 */
function silenceDeadlineMs(state: SessionState, traffic: Traffic): number | undefined {
  if (traffic.unansweredSinceMs === undefined) return undefined;
  const patienceMs = readTimeoutMs(state);
  return Math.max(traffic.lastReceivedMs + patienceMs, traffic.unansweredSinceMs + patienceMs / 2);
}

function announce(state: SessionState, visible: ConnectionState): Step {
  if (state.visible === visible) return { state, effects: [] };
  return { state: { ...state, visible }, effects: [{ type: "announce", state: visible }] };
}

function startConnecting(state: SessionState, nowMs: number): Step {
  const deadlineMs = nowMs + state.options.attemptTimeoutMs;
  return {
    state: { ...state, phase: "connecting", deadlineMs },
    effects: [{ type: "connect", server: state.server }],
  };
}

function onOpened(state: SessionState, nowMs: number): Step {
  if (state.phase !== "connecting") return { state, effects: [] };
  return {
    state: { ...state, phase: "handshake", deadlineMs: nowMs + state.options.attemptTimeoutMs },
    effects: [
      { type: "sendHandshake", identity: state.identity, sessionTimeoutMs: state.options.sessionTimeoutMs },
    ],
  };
}

type Established = Extract<SessionInput, { type: "established" }>;

function onEstablished(state: SessionState, input: Established, nowMs: number, jitter: number): Step {
  if (state.phase !== "handshake") return { state, effects: [] };
  if (input.timeoutMs <= 0) {
    if (state.identity.id !== NO_SESSION.id) return expire(state, nowMs);
    // There was no session that could have expired: asking at once again would go on for ever, without a pause.
    return onConnectionLost(state, "gives no session", nowMs, jitter);
  }
  const { timeoutMs, isReadOnly = false } = input;
  // A read-only server's session is its own: the one that writes are made in is kept for a server that takes them.
  const identity = isReadOnly ? state.identity : input.identity;
  const search = isReadOnly
    ? { atMs: nowMs + FIRST_SEARCH_DELAY_MS, delayMs: FIRST_SEARCH_DELAY_MS, server: state.server }
    : undefined;
  return {
    state: { ...state, phase: "preparing", identity, timeoutMs, search },
    effects: [{ type: "prepare" }],
  };
}

function onWritableFound(state: SessionState, server: number, nowMs: number, jitter: number): Step {
  if (state.phase !== "ready" || !state.search) return { state, effects: [] };
  const lost = onConnectionLost(state, "is read-only, and another is not", nowMs, jitter);
  return { ...lost, state: { ...lost.state, server, failures: 0, deadlineMs: nowMs } };
}

function onPrepared(state: SessionState, nowMs: number): Step {
  if (state.phase !== "preparing") return { state, effects: [] };
  const ready = announce({ ...state, phase: "ready", readySinceMs: nowMs }, "connected");
  return { state: ready.state, effects: [{ type: "openQueue" }, ...ready.effects] };
}

function pauseMs(state: SessionState, failures: number, jitter: number): number {
  // The other servers are tried at once; only a whole round without success makes a pause longer.
  const round = Math.floor(failures / state.options.serverCount);
  if (round === 0) return 0;
  const longest = Math.min(FIRST_PAUSE_MS * 2 ** (round - 1), LONGEST_PAUSE_MS);
  return longest / 2 + (longest / 2) * jitter;
}

/** Where servers do take us, pauses stay short: they only keep a connection that always breaks from spinning. */
function failuresAfterLoss(state: SessionState, nowMs: number): number {
  if (state.phase !== "ready") return state.failures + 1;
  if (nowMs - state.readySinceMs >= STABLE_AFTER_MS) return 0;
  return Math.min(state.failures + 1, MAX_FAILURES_WHILE_ACCEPTED * state.options.serverCount);
}

function onConnectionLost(state: SessionState, reason: string, nowMs: number, jitter: number): Step {
  if (state.phase === "waiting") return { state, effects: [] };
  if (state.phase === "closing") return finish(state, [{ type: "failInFlight", reason }]);
  const failures = failuresAfterLoss(state, nowMs);
  const lost = announce(
    {
      ...state,
      phase: "waiting",
      server: (state.server + 1) % state.options.serverCount,
      failures,
      deadlineMs: nowMs + pauseMs(state, failures, jitter),
      search: undefined,
    },
    state.visible === "connected" ? "suspended" : state.visible,
  );
  return {
    state: lost.state,
    effects: [
      { type: "destroySocket" },
      { type: "noteFailure", server: state.server, reason },
      ...lost.effects,
      { type: "failInFlight", reason },
    ],
  };
}

/** What a read-only server ends is its own session: the one that writes are made in is not known there. */
function onExpired(state: SessionState, nowMs: number, jitter: number): Step {
  if (state.search) return onConnectionLost(state, "has ended the session for reading", nowMs, jitter);
  return expire(state, nowMs);
}

/** The session is gone with its watches and ephemerals: say so, and ask the same server for a new one. */
function expire(state: SessionState, nowMs: number): Step {
  if (state.phase === "closing") return finish(state, [{ type: "expire" }]);
  const lost = announce(
    {
      ...state,
      phase: "waiting",
      identity: NO_SESSION,
      timeoutMs: state.options.sessionTimeoutMs,
      deadlineMs: nowMs,
      search: undefined,
    },
    "lost",
  );
  return { state: lost.state, effects: [{ type: "destroySocket" }, ...lost.effects, { type: "expire" }] };
}

function onTick(state: SessionState, traffic: Traffic, nowMs: number, jitter: number): Step {
  if (state.phase === "preparing" || state.phase === "ready") return keepAlive(state, traffic, nowMs, jitter);
  if (nowMs < state.deadlineMs) return { state, effects: [] };
  switch (state.phase) {
    case "waiting":
      return startConnecting(state, nowMs);
    case "connecting":
    case "handshake": {
      const what =
        state.phase === "connecting" ? "did not accept the connection" : "did not answer the handshake";
      return onConnectionLost(state, `${what} within ${state.options.attemptTimeoutMs} ms`, nowMs, jitter);
    }
    default:
      return onConnectionLost(state, "did not confirm the close", nowMs, jitter);
  }
}

function keepAlive(state: SessionState, traffic: Traffic, nowMs: number, jitter: number): Step {
  const deadlineMs = silenceDeadlineMs(state, traffic);
  if (deadlineMs !== undefined && nowMs >= deadlineMs) {
    const silentMs = Math.round(nowMs - traffic.lastReceivedMs);
    return onConnectionLost(state, `was silent for ${silentMs} ms`, nowMs, jitter);
  }
  const isPingDue = nowMs - traffic.lastSentMs >= pingIntervalMs(state);
  const searching = search(state, nowMs);
  return {
    state: searching.state,
    effects: isPingDue ? [{ type: "sendPing" }, ...searching.effects] : searching.effects,
  };
}

/** While the server is read-only: asks the others in turn, less and less often. */
function search(state: SessionState, nowMs: number): Step {
  if (!state.search || nowMs < state.search.atMs) return { state, effects: [] };
  const server = (state.search.server + 1) % state.options.serverCount;
  const delayMs = Math.min(state.search.delayMs * 2, LONGEST_SEARCH_DELAY_MS);
  return {
    state: { ...state, search: { atMs: nowMs + delayMs, delayMs, server } },
    effects: server === state.server ? [] : [{ type: "askWritable", server }],
  };
}

function onClose(state: SessionState, nowMs: number): Step {
  if (state.phase === "closing") return { state, effects: [] };
  if (state.phase !== "ready" && state.phase !== "preparing") return finish(state, []);
  return {
    state: { ...state, phase: "closing", deadlineMs: nowMs + CLOSE_TIMEOUT_MS },
    effects: [{ type: "sendClose" }],
  };
}

function finish(state: SessionState, effects: readonly SessionEffect[]): Step {
  const closed = announce({ ...state, phase: "closed", identity: NO_SESSION }, "closed");
  return {
    state: closed.state,
    effects: [{ type: "destroySocket" }, ...effects, ...closed.effects, { type: "finish" }],
  };
}
