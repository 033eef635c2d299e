import type { Clock } from "../clock";
import type { Log } from "../log";
import { RelayStoppedError } from "./errors";
import type { RelayMetrics } from "./metrics";

/** A relay's turn to be the active one. What it commits is fenced by the cursors, whatever it believes. */
export interface Turn {
  /** Aborts when the turn is over without `leave`: the session expired, or someone deleted its znode. */
  readonly lost: AbortSignal;
  /** Hands over: the next in line has its turn at once. Never rejects. */
  leave(): Promise<void>;
}

/** Waits in line at the path, which is created if it is missing, and resolves when it is this relay's turn. */
export type Elect = (path: string, signal: AbortSignal) => Promise<Turn>;

/** What gets ready while it waits, see SourceRelay.standBy. */
export interface Standby {
  readonly id: string;
  readonly source: { standBy(signal: AbortSignal): Promise<void> };
}

export interface StandbyOptions {
  readonly pipeline: { readonly name: string };
  readonly clock: Clock;
  readonly log: Log;
  readonly elect?: Elect;
  readonly metrics?: RelayMetrics | undefined;
}

/** The turn of a relay that stands for no election: it relays at once, and the cursors fence it. */
function atOnce(): Turn {
  // A signal of its own, since who waits for it is remembered by it.
  return { lost: new AbortController().signal, leave: () => Promise.resolve() };
}

/**
 * Waits for this relay's turn, with the sources standing by; undefined where the signal aborted before.
 * A source that can't stand by begins with a walk when its turn comes. Rejects with the election's error.
 */
export async function awaitTurn(
  { pipeline: { name: pipeline }, clock, log, elect, metrics }: StandbyOptions,
  path: string,
  sources: readonly Standby[],
  signal: AbortSignal,
): Promise<Turn | undefined> {
  if (!elect) {
    metrics?.enter("active");
    return atOnce();
  }
  const waiting = new AbortController();
  const beganMs = clock.now();
  const standing = sources.map(({ id, source }) =>
    source.standBy(waiting.signal).catch((error: unknown) => {
      log("warn", "a source does not stand by", { pipeline, source: id, error });
    }),
  );
  metrics?.enter("standby");
  log("info", "the relay stands by", { pipeline });
  try {
    const turn = await elect(path, signal);
    metrics?.enter("active");
    log("info", "the relay has its turn", { pipeline, waitedMs: clock.now() - beganMs });
    return turn;
  } catch (error) {
    if (signal.aborted) return undefined;
    throw error;
  } finally {
    waiting.abort();
    await Promise.allSettled(standing);
  }
}

/**
 * A `follow` that never rejects: what can't be read for the moment is read by a later one, at the latest when the relay's
 * turn comes. Of failures in a row the first is told.
 */
export function patiently(
  { log, sourceId: source }: { readonly log: Log; readonly sourceId: string },
  follow: () => Promise<void>,
): () => Promise<void> {
  let isFailing = false;
  return async () => {
    try {
      await follow();
      isFailing = false;
    } catch (error) {
      if (!isFailing) log("warn", "a standby can't read what the active relay delivers", { source, error });
      isFailing = true;
    }
  };
}

/** Rejects with RelayStoppedError when the turn is lost. */
export function lossOf({ lost }: Turn): Promise<never> {
  const loss = new Promise<never>((_, reject) => {
    const lose = (): void => reject(turnLost(lost.reason));
    if (lost.aborted) lose();
    else lost.addEventListener("abort", lose, { once: true });
  });
  loss.catch(() => undefined);
  return loss;
}

function turnLost(reason: unknown): RelayStoppedError {
  const why = reason instanceof Error ? reason.message : String(reason);
  return new RelayStoppedError(`another relay has its turn: ${why}`, undefined, true);
}
