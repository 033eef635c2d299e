import * as z from "zod/mini";
import { ensembleConnector, otherEnsembles } from "../lib/aws/ensemble";
import { awsLambda, deployedCode, type Handler, shardInvoker } from "../lib/aws/lambda";
import { openBlobs, openInputs, openOutput } from "../lib/aws/output";
import type { PipelineDefinition } from "../lib/beam/pipeline";
import type { InputFiles } from "../lib/beam/splittable";
import type { BlobStore } from "../lib/checkpoint/blobs";
import type { DeployedCode } from "../lib/checkpoint/code";
import type { FileStore } from "../lib/checkpoint/files";
import type { ShardInvoker } from "../lib/checkpoint/invocation";
import { type Clock, systemClock } from "../lib/clock";
import { jsonLines, type Log } from "../lib/log";
import { readSettings, type Settings, SettingsError } from "../lib/settings";
import type { ZooKeeper } from "../lib/zookeeper";
import { deployedPipelines } from "./pipelines";

/** A text in an event. */
export const eventText = z.string("must be a text").check(z.minLength(1, "must not be empty"));

/** What every deployed function works with. */
export interface Environment {
  readonly settings: Settings;
  readonly pipelines: readonly PipelineDefinition[];
  /** A new client, with the credentials of the deployment's secret. */
  readonly connect: () => Promise<ZooKeeper>;
  /** The same for another ensemble of the settings. */
  readonly connectTo: (ensemble: string) => Promise<ZooKeeper>;
  readonly files: FileStore;
  readonly blobs: BlobStore;
  readonly inputs: InputFiles;
  readonly clock: Clock;
  readonly log: Log;
}

/** Reads the environment of the process. Throws SettingsError, PipelineFileError, ObjectNameError. */
export async function readEnvironment(): Promise<Environment> {
  const settings = readSettings(process.env);
  // An emulator has no host name for each bucket.
  const pathStyle = process.env.AWS_ENDPOINT_URL !== undefined;
  return {
    settings,
    pipelines: await deployedPipelines(),
    connect: ensembleConnector(settings),
    connectTo: otherEnsembles(settings),
    files: openOutput(settings.output, { pathStyle }),
    blobs: openBlobs(settings.blobStore, { pathStyle }),
    inputs: openInputs({ pathStyle }),
    clock: systemClock,
    log: jsonLines((line) => process.stdout.write(line), systemClock.now),
  };
}

/**
 * Lambda's entry point: what `create` makes of the environment at the first invocation, so that a bad setting is
 * answered and not lost. What failed is tried again by the next invocation.
 */
export function deployedHandler(create: (environment: Environment) => Promise<Handler> | Handler): Handler {
  let deployed: Promise<Handler> | undefined;
  return async (event, context) => {
    deployed ??= readEnvironment()
      .then(create)
      .catch((error: unknown) => {
        deployed = undefined;
        throw error;
      });
    return (await deployed)(event, context);
  };
}

/** How to call the deployment's bundle function, and which version of it is this deployment's. */
export interface Bundles {
  readonly invoke: ShardInvoker;
  readonly code?: DeployedCode;
}

/** Throws SettingsError where the bundle function has no name. */
export async function deployedBundles({ bundleFunction, bundleVersion }: Settings): Promise<Bundles> {
  if (!bundleFunction)
    throw new SettingsError(
      "BEAMKEEPER_BUNDLE_FUNCTION is missing: set it to the name of the bundle function, which this function invokes",
    );
  const lambda = await awsLambda();
  const invoke = shardInvoker(lambda, bundleFunction);
  if (bundleVersion === undefined) return { invoke };
  return { invoke, code: deployedCode(lambda, { function: bundleFunction, version: bundleVersion }) };
}

/** The pipeline of that name, or all where none is named. Throws SettingsError where there is none. */
export function choosePipelines(
  definitions: readonly PipelineDefinition[],
  name: string | undefined,
): readonly PipelineDefinition[] {
  if (name === undefined) return definitions;
  const chosen = definitions.filter((definition) => definition.name === name);
  if (chosen.length > 0) return chosen;
  throw new SettingsError(
    `there is no pipeline "${name}" in this deployment; it has ${definitions.map((each) => each.name).join(", ")}`,
  );
}
