import { InvalidArgumentError } from "./errors";

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
  /** The greatest request in bytes: the servers' jute.maxbuffer (default: 1,048,575). */
  readonly juteMaxBufferBytes?: number;
  readonly clock?: Clock;
  /** For the order of the servers and for pauses, from 0 up to 1 (default: Math.random). */
  readonly random?: () => number;
}

export type ResolvedOptions = Required<ZooKeeperOptions>;

const SYSTEM_CLOCK: Clock = {
  now: () => performance.now(),
  setTimeout: (callback, delayMs) => setTimeout(callback, delayMs),
  clearTimeout: (timer) => clearTimeout(timer as NodeJS.Timeout),
};

const MAX_INT32 = 2 ** 31 - 1;

function checkWhole(name: string, value: number): void {
  if (Number.isInteger(value) && value >= 1 && value <= MAX_INT32) return;
  throw new InvalidArgumentError(
    `${name} is ${value}; it must be a whole number from 1 to ${MAX_INT32}.`,
    "terminal",
  );
}

export function resolveOptions(options: ZooKeeperOptions): ResolvedOptions {
  const resolved: ResolvedOptions = {
    connectString: options.connectString,
    sessionTimeoutMs: options.sessionTimeoutMs ?? 30_000,
    connectTimeoutMs: options.connectTimeoutMs ?? 15_000,
    minimumZxid: options.minimumZxid ?? 0n,
    authentication: options.authentication ?? [],
    maxInFlight: options.maxInFlight ?? 1_000,
    juteMaxBufferBytes: options.juteMaxBufferBytes ?? 1_048_575,
    clock: options.clock ?? SYSTEM_CLOCK,
    random: options.random ?? Math.random,
  };
  for (const name of ["sessionTimeoutMs", "connectTimeoutMs", "maxInFlight", "juteMaxBufferBytes"] as const) {
    checkWhole(name, resolved[name]);
  }
  return resolved;
}
