import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createBundleHandler } from "../../functions/bundle";
import { createRelayHandler } from "../../functions/relay";
import { otherEnsembles } from "../../lib/aws/ensemble";
import { type LambdaService, LocalLambda, shardInvoker } from "../../lib/aws/lambda";
import type { ZooKeeperCredentials } from "../../lib/aws/secret";
import type { PipelineDefinition } from "../../lib/beam/pipeline";
import { DirectoryBlobs } from "../../lib/checkpoint/blobs";
import { DirectoryFiles } from "../../lib/checkpoint/files";
import { PipelineLayout } from "../../lib/checkpoint/layout";
import { withOwnAcl } from "../../lib/checkpoint/own-acl";
import { isSettled, readStatus } from "../../lib/checkpoint/status";
import { systemClock } from "../../lib/clock";
import { type Log, silent } from "../../lib/log";
import type { RelayCommit } from "../../lib/relay/source-relay";
import { readSettings, type Settings } from "../../lib/settings";
import { connect, type ZooKeeperClient } from "../../lib/zookeeper";

/**
 * How long a test waits for what has to come: a hundred times as long as it takes on a quiet machine, and less than
 * Jest's own limit, which would not say what is missing.
 */
export const PATIENCE_MS = 200_000;

export interface DeploymentOptions {
  readonly connectString: string;
  readonly root: string;
  readonly definition: PipelineDefinition;
  readonly output: string;
  /** Of the functions, for the ensemble. */
  readonly credentials?: ZooKeeperCredentials;
  /** Environment variables on top of the defaults. */
  readonly environment?: Readonly<Record<string, string>>;
  /** Default: 5, so that a test ends with the reason. */
  readonly maxFailures?: number;
  readonly log?: Log;
  /** Wraps the clients that the handlers get. */
  readonly wrapRelay?: (client: ZooKeeperClient) => ZooKeeperClient;
  readonly wrapBundle?: (client: ZooKeeperClient) => ZooKeeperClient;
  /** Instead of this process's own bundle handler. */
  readonly bundles?: LambdaService;
  readonly onCommit?: (commit: RelayCommit) => void;
}

/** Settings for a test: short waits, so that a test does not have to. */
export function testSettings(
  options: Pick<DeploymentOptions, "connectString" | "root" | "output" | "environment">,
): Settings {
  return readSettings({
    ZOOKEEPER_CONNECT: options.connectString,
    BEAMKEEPER_ROOT: options.root,
    BEAMKEEPER_OUTPUT: options.output,
    BEAMKEEPER_IDLE_INTERVAL_MS: "50",
    ...options.environment,
  });
}

/** The handlers of a pipeline, deployed to this process, with their clients. */
export class Deployment {
  private readonly stop = new AbortController();
  private readonly clients: ZooKeeperClient[] = [];
  readonly settings: Settings;
  readonly layout: PipelineLayout;
  /** How the relay function ended; rejects as the invocation did. */
  readonly relay: Promise<unknown>;

  constructor(readonly options: DeploymentOptions) {
    this.settings = testSettings(options);
    this.layout = new PipelineLayout(options.root, options.definition.name);
    this.relay = this.invokeRelay();
    this.relay.catch(() => undefined);
  }

  private invokeRelay(): Promise<unknown> {
    const {
      definition,
      log = silent,
      wrapRelay = same,
      wrapBundle = same,
      maxFailures = 5,
      onCommit,
    } = this.options;
    const shared = { settings: this.settings, pipelines: [definition], clock: systemClock, log };
    const lambda = new LocalLambda(systemClock.now);
    const files = new DirectoryFiles(this.settings.output);
    const blobs = new DirectoryBlobs(this.settings.blobStore);
    lambda.deploy(
      "bundle",
      createBundleHandler({ ...shared, connect: () => this.connect(wrapBundle), files, blobs }),
      900_000,
    );
    const relay = createRelayHandler({
      ...shared,
      connect: () => this.connect(wrapRelay),
      connectTo: otherEnsembles(this.settings),
      invoke: shardInvoker(this.options.bundles ?? lambda, "bundle"),
      blobs,
      signal: this.stop.signal,
      maxFailures,
      ...(onCommit === undefined ? {} : { onCommit }),
    });
    return relay({}, { getRemainingTimeInMillis: () => 900_000 });
  }

  private async connect(wrap: (client: ZooKeeperClient) => ZooKeeperClient): Promise<ZooKeeperClient> {
    const { credentials } = this.options;
    const client = await connect({ ...this.settings, ...credentials });
    this.clients.push(client);
    return wrap(await withOwnAcl(client, this.settings.root, credentials !== undefined));
  }

  /** Resolves when everything up to the ensemble's present time is processed; rejects when the relay fails first. */
  async settled(client: ZooKeeperClient): Promise<void> {
    const untilMs = await ensembleTime(client);
    const ended = this.relay.then(() => {
      throw new Error("the relay ended before the pipeline had settled");
    });
    await Promise.race([untilSettled(client, this.layout, Math.ceil((untilMs + 1) / 1000) * 1000), ended]);
  }

  async end(): Promise<void> {
    this.stop.abort();
    await this.relay.catch(() => undefined);
    await Promise.all(this.clients.map((client) => client.close()));
  }
}

function same(client: ZooKeeperClient): ZooKeeperClient {
  return client;
}

/** The leader's clock, from a write. */
export async function ensembleTime(client: ZooKeeperClient): Promise<number> {
  const { path, stat } = await client.create("/clock-", undefined, { mode: "ephemeral-sequential" });
  await client.delete(path);
  return stat.ctime;
}

async function untilSettled(client: ZooKeeperClient, layout: PipelineLayout, timeMs: number): Promise<void> {
  const deadline = Date.now() + PATIENCE_MS;
  for (;;) {
    const status = await readStatus(client, layout);
    if (status && isSettled(status, timeMs)) return;
    if (Date.now() > deadline) throw new Error(`${layout.path} has not settled: ${JSON.stringify(status)}`);
    await systemClock.sleep(20);
  }
}

/** Every znode below the path with its data, by path relative to it. */
export async function readTree(client: ZooKeeperClient, path: string): Promise<Map<string, string>> {
  const tree = new Map<string, string>();
  const visit = async (at: string): Promise<void> => {
    const { children } = await client.getChildren(at);
    for (const child of children.sort()) {
      const { data } = await client.getData(`${at}/${child}`);
      tree.set(`${at}/${child}`.slice(path.length), data.toString("utf8"));
      await visit(`${at}/${child}`);
    }
  };
  if (await client.exists(path)) await visit(path);
  return tree;
}

/** The lines of every visible file below the folder, sorted, by file name relative to it. */
export function readFolder(folder: string): Map<string, string[]> {
  const files = new Map<string, string[]>();
  const names = readdirSync(folder, { recursive: true, encoding: "utf8" }).sort();
  for (const name of names.filter((each) => !each.split("/").some((part) => part.startsWith(".")))) {
    if (!statSync(join(folder, name)).isFile()) continue;
    files.set(name, readFileSync(join(folder, name), "utf8").split("\n").filter(Boolean).sort());
  }
  return files;
}

/** A folder that `remove` takes away again. */
export function temporaryFolder(): { path: string; remove: () => void } {
  const path = mkdtempSync(join(tmpdir(), "beamkeeper-test-"));
  return { path, remove: () => rmSync(path, { recursive: true, force: true }) };
}
