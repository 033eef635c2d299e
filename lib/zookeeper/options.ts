import { shuffle } from "./connect-string";
import type { LookupFunction, TlsOptions } from "./connection";
import { InvalidArgumentError } from "./errors";
import { checkSasl, type Sasl } from "./sasl";
import type { SessionTicket } from "./session-ticket";

/** Credentials as `addauth` takes them: `{ scheme: "digest", auth: "user:password" }`. */
export interface Authentication {
  readonly scheme: string;
  readonly auth: string | Uint8Array;
}

/** The clock and timers that the client uses; tests give their own. */
export interface Clock {
  /** Milliseconds that never go back (default: performance.now). */
  now(): number;
  setTimeout(callback: () => void, delayMs: number): unknown;
  clearTimeout(timer: unknown): void;
}

export interface ZooKeeperOptions {
  /** `h1:p1,h2:p2`, with an optional path that all paths are below: `h1:p1,h2:p2/app`. */
  readonly connectString: string;
  /** What is asked for in milliseconds; the server bounds it by 2 and 20 of its ticks (default: 30,000). */
  readonly sessionTimeoutMs?: number;
  /** How long `connect`, and an operation without a connection, wait in milliseconds (default: 15,000). */
  readonly connectTimeoutMs?: number;
  /** Only servers that have seen this zxid are used (default: 0n, any). */
  readonly minimumZxid?: bigint;
  /** Sent on every new connection before anything else (default: none). */
  readonly authentication?: readonly Authentication[];
  /** Requests that may be unanswered at a time; more wait in order (default: 1,000, the servers' own bound). */
  readonly maxInFlight?: number;
  /** Bytes of requests that may be unanswered at a time; more wait in order (default: 33,554,432). */
  readonly maxInFlightBytes?: number;
  /** Bytes that may wait to be sent; a call beyond it rejects with `QueueFullError` (default: 268,435,456). */
  readonly maxQueuedBytes?: number;
  /** The greatest request in bytes: the servers' jute.maxbuffer (default: 1,048,575). */
  readonly juteMaxBufferBytes?: number;
  /**
   * Speaks TLS, with node:tls's names: `ca`, `cert`, `key`, `passphrase`, `pfx`, `servername`, `minVersion`; `true`
   * trusts the system's authorities (default: false, plain).
   */
  readonly tls?: boolean | TlsOptions;
  /** SASL DIGEST-MD5 on every new connection (default: none). Kerberos is refused. */
  readonly sasl?: Sasl;
  /** Serve reads from a server that has lost its quorum rather than nothing; see `isReadOnly` (default: false). */
  readonly canBeReadOnly?: boolean;
  /** A session that another process has handed over, see `ZooKeeper.handOver` (default: a new session). */
  readonly session?: SessionTicket;
  /** How names become addresses, as in node:net; asked for every connection (default: the system's, in random order). */
  readonly lookup?: LookupFunction;
  readonly clock?: Clock;
  /** For the order of the servers and for pauses, from 0 up to 1 (default: Math.random). */
  readonly random?: () => number;
}

type Optional = "tls" | "sasl" | "session";

export interface ResolvedOptions extends Required<Omit<ZooKeeperOptions, Optional>> {
  readonly tls: TlsOptions | undefined;
  readonly sasl: Sasl | undefined;
  readonly session: SessionTicket | undefined;
}

const SYSTEM_CLOCK: Clock = {
  now: () => performance.now(),
  setTimeout: (callback, delayMs) => setTimeout(callback, delayMs),
  clearTimeout: (timer) => clearTimeout(timer as NodeJS.Timeout),
};

const WHOLE_NUMBERS = [
  "sessionTimeoutMs",
  "connectTimeoutMs",
  "maxInFlight",
  "maxInFlightBytes",
  "maxQueuedBytes",
  "juteMaxBufferBytes",
] as const;
const MAX_INT32 = 2 ** 31 - 1;

function checkWhole(name: string, value: number): void {
  if (Number.isInteger(value) && value >= 1 && value <= MAX_INT32) return;
  throw new InvalidArgumentError(
    `${name} is ${value}; it must be a whole number from 1 to ${MAX_INT32}.`,
    "terminal",
  );
}

/** All addresses of a name in random order: clients spread over them, and a dead one is passed by. */
function shuffledLookup(random: () => number): LookupFunction {
  return (host, options, callback) => {
    process
      .getBuiltinModule("node:dns")
      .lookup(host, { ...options, all: true }, (error, addresses) =>
        callback(error, error ? [] : shuffle(addresses, random)),
      );
  };
}

export function resolveOptions(options: ZooKeeperOptions): ResolvedOptions {
  const random = options.random ?? Math.random;
  const resolved: ResolvedOptions = {
    connectString: options.connectString,
    sessionTimeoutMs: options.sessionTimeoutMs ?? 30_000,
    connectTimeoutMs: options.connectTimeoutMs ?? 15_000,
    minimumZxid: options.minimumZxid ?? 0n,
    authentication: options.authentication ?? [],
    maxInFlight: options.maxInFlight ?? 1_000,
    maxInFlightBytes: options.maxInFlightBytes ?? 32 * 1024 * 1024,
    maxQueuedBytes: options.maxQueuedBytes ?? 256 * 1024 * 1024,
    juteMaxBufferBytes: options.juteMaxBufferBytes ?? 1_048_575,
    clock: options.clock ?? SYSTEM_CLOCK,
    random,
    tls: options.tls === true ? {} : options.tls || undefined,
    sasl: options.sasl,
    canBeReadOnly: options.canBeReadOnly ?? false,
    session: options.session,
    lookup: options.lookup ?? shuffledLookup(random),
  };
  if (resolved.sasl) checkSasl(resolved.sasl);
  for (const name of WHOLE_NUMBERS) {
    checkWhole(name, resolved[name]);
  }
  return resolved;
}
