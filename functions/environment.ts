import { ensembleConnector } from "../lib/aws/ensemble";
import { openBlobs, openOutput } from "../lib/aws/output";
import type { PipelineDefinition } from "../lib/beam/pipeline";
import type { BlobStore } from "../lib/checkpoint/blobs";
import type { FileStore } from "../lib/checkpoint/files";
import { type Clock, systemClock } from "../lib/clock";
import { jsonLines, type Log } from "../lib/log";
import { readSettings, type Settings } from "../lib/settings";
import type { ZooKeeper } from "../lib/zookeeper";
import { deployedPipelines } from "./pipelines";

/** What every deployed function works with. */
export interface Environment {
  readonly settings: Settings;
  readonly pipelines: readonly PipelineDefinition[];
  /** A new client, with the credentials of the deployment's secret. */
  readonly connect: () => Promise<ZooKeeper>;
  readonly files: FileStore;
  readonly blobs: BlobStore;
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
    files: openOutput(settings.output, { pathStyle }),
    blobs: openBlobs(settings.blobStore, { pathStyle }),
    clock: systemClock,
    log: jsonLines((line) => process.stdout.write(line), systemClock.now),
  };
}
