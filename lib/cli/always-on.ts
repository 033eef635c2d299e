import { createRelayHandler } from "../../functions/relay";
import { openBlobs } from "../aws/output";
import type { PipelineDefinition } from "../beam/pipeline";
import type { DeployedCode } from "../checkpoint/code";
import type { ShardInvoker } from "../checkpoint/invocation";
import type { Clock } from "../clock";
import type { Log } from "../log";
import type { RelayMetrics } from "../relay/metrics";
import type { RelayEnd } from "../relay/relay";
import { standingForElection } from "../relay/turns";
import type { Settings } from "../settings";
import type { ZooKeeper } from "../zookeeper";
import { ENDED, OUTAGES } from "./local-deployment";

export interface AlwaysOnOptions {
  readonly settings: Settings;
  readonly definition: PipelineDefinition;
  readonly connect: () => Promise<ZooKeeper>;
  readonly invoke: ShardInvoker;
  readonly code?: DeployedCode;
  readonly metrics: RelayMetrics;
  readonly clock: Clock;
  readonly log: Log;
}

const STARTING = "it is starting";
const OUTAGE_PAUSE_MS = 1_000;
// A look costs a session.
const STOPPED_PAUSE_MS = 5_000;
const FIRST_RETRY_MS = 1_000;
const LAST_RETRY_MS = 60_000;

/** The relay function's code as a process: for one pipeline, begun again whenever it ends, until the signal. */
export class AlwaysOnRelay {
  private client: ZooKeeper | undefined;
  private trouble = STARTING;
  private hasEnded = false;

  constructor(private readonly options: AlwaysOnOptions) {}

  /** Why the pipeline is not relayed from here and nothing would take over at once; undefined where all is well. */
  get problem(): string | undefined {
    if (this.hasEnded) return undefined;
    const { state } = this.options.metrics.figures();
    const connection = this.client?.state;
    const isAtWork = state === "active" || state === "standby";
    if (isAtWork && connection !== "connected") return `the connection to the ensemble is ${connection}`;
    return isAtWork ? undefined : this.trouble;
  }

  /**
   * Resolves when the signal has aborted and the relay has handed over, or when the pipeline is finished, drained or
   * cancelled. Never rejects: what fails is logged and tried again, an ensemble that is away for as long as it takes.
   */
  async run(signal: AbortSignal): Promise<void> {
    const { definition, clock, log } = this.options;
    const pipeline = definition.name;
    for (let failures = 0; !signal.aborted; ) {
      const end = await this.relay(signal).catch((error: unknown) => asError(error));
      this.client = undefined;
      if (signal.aborted) {
        const reason = end instanceof Error ? end.message : end.message || end.reason;
        log("info", "the relay has ended", { pipeline, reason });
        return;
      }
      if (!(end instanceof Error) && ENDED.has(end.reason)) {
        log("info", "the pipeline has ended; it needs no relay any more", { pipeline, reason: end.reason });
        this.hasEnded = true;
        return;
      }
      const isFailure = end instanceof Error && !OUTAGES.has(end.name);
      failures = isFailure ? failures + 1 : 0;
      const pauseMs = isFailure
        ? Math.min(LAST_RETRY_MS, FIRST_RETRY_MS * 2 ** (failures - 1))
        : pauseAfter(end);
      this.trouble = end.message;
      if (isFailure)
        log("error", "the relay failed; it begins again", { pipeline, inMs: pauseMs, error: end });
      else log("warn", "the relay begins again", { pipeline, inMs: pauseMs, reason: end.message });
      await clock.sleep(pauseMs, signal);
    }
  }

  private async relay(signal: AbortSignal): Promise<RelayEnd> {
    const { settings, definition, invoke, code, metrics, clock, log } = this.options;
    metrics.enter("starting");
    const handler = createRelayHandler<ZooKeeper>({
      ...{ pipelines: [definition], invoke, clock, log, signal, metrics: () => metrics },
      settings: { ...settings, relayRunMs: Number.POSITIVE_INFINITY },
      drivesEvents: true,
      blobs: openBlobs(settings.blobStore, { pathStyle: process.env.AWS_ENDPOINT_URL !== undefined }),
      ...(code ? { code } : {}),
      ...(settings.relayStandsBy ? { elect: standingForElection } : {}),
      connect: async () => {
        this.client = await unlessAborted(this.options.connect(), signal);
        this.trouble = STARTING;
        return this.client;
      },
    });
    const context = { getRemainingTimeInMillis: () => Number.POSITIVE_INFINITY };
    const ends = (await handler({}, context)) as Record<string, RelayEnd>;
    return ends[definition.name]!;
  }
}

function pauseAfter(end: RelayEnd | Error): number {
  return end instanceof Error ? OUTAGE_PAUSE_MS : STOPPED_PAUSE_MS;
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error));
}

/** Rejects when the signal aborts first; the connection is closed as soon as it is there. */
async function unlessAborted(connecting: Promise<ZooKeeper>, signal: AbortSignal): Promise<ZooKeeper> {
  const connected = new AbortController();
  const aborted = new Promise<undefined>((done) => {
    signal.addEventListener("abort", () => done(undefined), { once: true, signal: connected.signal });
    if (signal.aborted) done(undefined);
  });
  const client = await Promise.race([connecting, aborted]).finally(() => connected.abort());
  if (client) return client;
  connecting.then((late) => late.close()).catch(() => undefined);
  throw new Error("it was told to end while it connected");
}
