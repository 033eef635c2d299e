import { setMaxListeners } from "node:events";
import { type Bundles, deployedBundles } from "../../functions/environment";
import { ensembleConnector } from "../aws/ensemble";
import { shardInvoker } from "../aws/lambda";
import { compilePipeline, type PipelineDefinition } from "../beam/pipeline";
import { systemClock } from "../clock";
import { jsonLines, type Log } from "../log";
import { prometheusText } from "../relay/metric-formats";
import { RelayMetrics } from "../relay/metrics";
import { isBounded } from "../runner/deployment";
import { readSettings, type Settings } from "../settings";
import { AlwaysOnRelay } from "./always-on";
import { readArguments, UsageError } from "./arguments";
import { type Health, portOf, serveHealth } from "./health-endpoint";
import { deployBundle } from "./local-deployment";
import { namedPipelines } from "./named-pipelines";
import type { Terminal } from "./terminal";

export const RELAY_USAGE = `beamkeeper relay [FILE | NAME]...     relays pipelines (default: all in pipelines/) as a plain process, until
                                      SIGTERM or ctrl-C; then another relay takes over; a second one ends it at once
    [--health PORT]                   serves /live, /ready and /metrics there (0: any free port), on loopback
    [--health-host HOST]              serves them on that address instead
BEAMKEEPER_BUNDLE_FUNCTION names the bundle function on Lambda; without it bundles run in this process.`;

interface RelayArguments {
  readonly names: readonly string[];
  readonly port: number | undefined;
  readonly host: string;
}

const LOOPBACK = "127.0.0.1";

/**
 * `beamkeeper relay`: relays until the signal, or until no pipeline needs it any more; returns 0. Logs are JSON lines on
 * the terminal. Throws UsageError, SettingsError, HealthEndpointError, or what a pipeline throws.
 */
export async function relay(
  args: readonly string[],
  environment: NodeJS.ProcessEnv,
  terminal: Terminal,
  signal: AbortSignal,
): Promise<number> {
  const { names, port, host } = parse(args);
  const settings = readSettings(environment);
  const definitions = relayable(await namedPipelines(names), names);
  const log = jsonLines((line) => terminal.say(line.trimEnd()), systemClock.now);
  // Every pipeline's relay listens to it.
  setMaxListeners(0, signal);
  const bundles = await bundlesOf(settings, definitions, log);
  const connect = ensembleConnector(settings);
  const all = definitions.map((definition) => {
    const metrics = new RelayMetrics(definition.name, systemClock.now);
    const { invoke, code } = bundles.of(definition);
    const options = { settings, definition, connect, invoke, metrics, clock: systemClock, log };
    return {
      metrics,
      name: definition.name,
      relay: new AlwaysOnRelay({ ...options, ...(code ? { code } : {}) }),
    };
  });
  const health: Health = {
    problems: () => {
      if (signal.aborted) return ["it is handing over"];
      return all.flatMap(({ name, relay: { problem } }) =>
        problem === undefined ? [] : [`${name}: ${problem}`],
      );
    },
    metrics: () => prometheusText(all.map(({ metrics }) => metrics.figures())),
  };
  try {
    const endpoint = port === undefined ? undefined : await serveHealth({ host, port }, health);
    if (endpoint) log("info", "health is told", { url: endpoint.url });
    try {
      await Promise.all(all.map((each) => each.relay.run(signal)));
    } finally {
      await endpoint?.close();
    }
  } finally {
    await bundles.close();
  }
  return 0;
}

/** Bounded pipelines are the batch function's. */
function relayable(
  definitions: readonly PipelineDefinition[],
  names: readonly string[],
): readonly PipelineDefinition[] {
  const isRelayed = (definition: PipelineDefinition): boolean => !isBounded(compilePipeline(definition));
  const chosen = definitions.filter(isRelayed);
  const others = definitions.filter((definition) => !chosen.includes(definition)).map(({ name }) => name);
  if (others.length > 0 && (names.length > 0 || chosen.length === 0))
    throw unusable(
      `relay: ${others.join(", ")}: bounded, so no relay watches for it; the batch function runs it`,
    );
  return chosen;
}

/** How each pipeline's bundles are run: on Lambda where a function is named, else in this process. */
async function bundlesOf(
  settings: Settings,
  definitions: readonly PipelineDefinition[],
  log: Log,
): Promise<{ of(definition: PipelineDefinition): Bundles; close(): Promise<void> }> {
  if (settings.bundleFunction !== undefined) {
    const deployed = await deployedBundles(settings);
    return { of: () => deployed, close: async () => undefined };
  }
  const local = new Map(
    definitions.map((definition) => [definition, deployBundle({ settings, definition, log })]),
  );
  return {
    of: (definition) => ({ invoke: shardInvoker(local.get(definition)!.lambda, "bundle") }),
    close: async () => {
      await Promise.all([...local.values()].map(({ close }) => close()));
    },
  };
}

function parse(args: readonly string[]): RelayArguments {
  const options = { health: { type: "string" }, "health-host": { type: "string" } } as const;
  const { values, positionals } = readArguments(args, options, RELAY_USAGE);
  const port = values.health === undefined ? undefined : portOf(values.health);
  if (values.health !== undefined && port === undefined)
    throw unusable(`--health must be a port from 0 to 65535, not "${values.health}"`);
  if (values["health-host"] !== undefined && port === undefined)
    throw unusable("--health-host goes with --health PORT");
  return { names: positionals, port, host: values["health-host"] ?? LOOPBACK };
}

function unusable(problem: string): UsageError {
  return new UsageError(problem, RELAY_USAGE);
}
