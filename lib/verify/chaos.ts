import { join } from "node:path";
import type { LocalServer, LocalZooKeeper } from "../../infra/zookeeper/server";
import { fourLetterWord } from "../../infra/zookeeper/server";
import { TcpProxy } from "../../infra/zookeeper/tcp-proxy";
import { DirectoryBlobs } from "../checkpoint/blobs";
import type { ShardReply } from "../checkpoint/invocation";
import { PipelineLayout } from "../checkpoint/layout";
import { isSettled, readStatus } from "../checkpoint/status";
import type { Clock } from "../clock";
import { compare, readPutAside, readSummaries } from "../simulation/oracle";
import { randomNumbers } from "../simulation/random-numbers";
import { RESULTS, SOURCE } from "../simulation/summary-pipeline";
import { connect, type ZooKeeperClient } from "../zookeeper";
import { mergeTransactions, readTransactionLogs } from "../zookeeper/transaction-log";
import { type Audit, audit } from "./auditor";
import { ChaosWriter } from "./chaos-writer";
import { type CommitFate, countFates, type FateCounts } from "./commit-fates";
import { HostedProcess } from "./hosted-process";

/** What strikes a real deployment. Stopped is SIGSTOP and, some time later, SIGCONT; killed is SIGKILL. */
export const CHAOS_KINDS = [
  "leader killed",
  "server killed",
  "server stopped",
  "relay killed",
  "relay stopped",
  "function killed",
  "function stopped",
  "connections cut",
  "connections stalled",
] as const;

export type ChaosKind = (typeof CHAOS_KINDS)[number];

export interface ChaosOptions {
  /** Three servers that nobody else uses, with their logs whole. */
  readonly ensemble: LocalZooKeeper;
  readonly seed: number;
  /** How long faults strike; then everything gets time to settle. */
  readonly forMs: number;
  /** The module that relay and functions run in. */
  readonly module: string;
  /** What the processes get beside their settings. */
  readonly environment: NodeJS.ProcessEnv;
  /** An empty folder for the text files. */
  readonly folder: string;
  readonly readFiles: (folder: string) => string[];
  readonly clock: Clock;
  readonly signal: AbortSignal;
}

export interface ChaosReport {
  readonly seed: number;
  readonly faults: Readonly<Record<ChaosKind, number>>;
  readonly writes: number;
  readonly elements: number;
  readonly missed: number;
  readonly fates: FateCounts;
  readonly audit: Omit<Audit, "problems" | "commitIds">;
  readonly problems: readonly string[];
}

const ROOT = "/beamkeeper";
const FUNCTIONS = 3;
const SETTLE_MS = 120_000;
const FAULT_EVERY_MS = 700;

/** Runs a pipeline on a real ensemble with real processes, strikes them, and judges what came out. */
export function runChaos(options: ChaosOptions): Promise<ChaosReport> {
  return new Chaos(options).run();
}

class Chaos {
  private readonly random: () => number;
  private readonly faults = Object.fromEntries(CHAOS_KINDS.map((kind) => [kind, 0])) as Record<
    ChaosKind,
    number
  >;
  private readonly fates: CommitFate[] = [];
  private readonly layout = new PipelineLayout(ROOT, "summary");
  private proxies: TcpProxy[] = [];
  private functions: HostedProcess[] = [];
  private relay!: HostedProcess;
  private isOver = false;

  constructor(private readonly options: ChaosOptions) {
    this.random = randomNumbers(options.seed);
  }

  async run(): Promise<ChaosReport> {
    const { ensemble } = this.options;
    const client = await connect({ connectString: ensemble.connectString, connectTimeoutMs: 60_000 });
    let relaying: Promise<void> | undefined;
    try {
      await client.create(SOURCE);
      await client.create(RESULTS);
      for (const server of ensemble.servers) this.proxies.push(await TcpProxy.start(server.address));
      this.deploy();
      relaying = this.keepRelaying();
      await this.started(client);
      const writer = new ChaosWriter(client, this.random, this.options.clock);
      await Promise.all([writer.run(() => this.isOver), this.strike()]);
      await this.settle(client);
      return await this.judge(client, writer);
    } finally {
      this.isOver = true;
      this.relay?.end();
      for (const each of this.functions) each.end();
      await relaying;
      await client.close();
      for (const proxy of this.proxies) await proxy.stop();
    }
  }

  private deploy(): void {
    const { module, folder } = this.options;
    const environment = {
      ...this.options.environment,
      ZOOKEEPER_CONNECT: this.proxies.map(({ address }) => address).join(","),
      BEAMKEEPER_ROOT: ROOT,
      BEAMKEEPER_OUTPUT: folder,
      BEAMKEEPER_IDLE_INTERVAL_MS: "100",
      BEAMKEEPER_SESSION_TIMEOUT_MS: "6000",
      BEAMKEEPER_BUNDLE_UNITS: "20",
    };
    const host = { module, environment, onFate: (fate: CommitFate) => void this.fates.push(fate) };
    this.functions = Array.from({ length: FUNCTIONS }, () => new HostedProcess(host));
    this.relay = new HostedProcess({
      ...host,
      invoke: async (request) => (await this.anyFunction().invoke("bundle", request)) as ShardReply,
    });
  }

  /** As Lambda chooses: one that is free, else any. */
  private anyFunction(): HostedProcess {
    const least = Math.min(...this.functions.map(({ busy }) => busy));
    return this.pick(this.functions.filter(({ busy }) => busy === least));
  }

  private async keepRelaying(): Promise<void> {
    while (!this.isOver) {
      await this.relay.invoke("relay", {}).catch(() => undefined);
      if (!this.isOver) await this.options.clock.sleep(this.between(50, 500));
    }
  }

  private async started(client: ZooKeeperClient): Promise<void> {
    for (let waits = 0; ; waits++) {
      const status = await readStatus(client, this.layout);
      if (status?.sources.every(({ commits }) => commits > 0)) return;
      if (waits > 600) throw new Error("the relay did not start within a minute");
      await this.options.clock.sleep(100, this.options.signal);
    }
  }

  private async strike(): Promise<void> {
    const { clock, forMs, signal } = this.options;
    const endMs = clock.now() + forMs;
    // Each kind once, in any order, and then at random.
    const first = [...CHAOS_KINDS].sort(() => this.random() - 0.5);
    while (clock.now() < endMs && !signal.aborted) {
      await clock.sleep(this.between(FAULT_EVERY_MS / 2, FAULT_EVERY_MS * 1.5), signal);
      const kind = first.pop() ?? this.pick(CHAOS_KINDS);
      if (await this.befall(kind)) this.faults[kind] += 1;
    }
    this.isOver = signal.aborted;
    await this.mend();
    this.isOver = true;
  }

  /** False where there was nothing to strike. */
  private async befall(kind: ChaosKind): Promise<boolean> {
    const { servers } = this.options.ensemble;
    switch (kind) {
      case "leader killed":
        return this.restart(await this.leader());
      case "server killed":
        return this.restart(this.pick(servers));
      case "server stopped":
        return this.stopServer(this.pick(servers));
      case "relay killed":
        return this.relay.signal("SIGKILL");
      case "function killed":
        return this.pick(this.functions).signal("SIGKILL");
      case "relay stopped":
        return this.stopProcess(this.relay);
      case "function stopped":
        return this.stopProcess(this.pick(this.functions));
      case "connections cut":
        for (const proxy of this.proxies) proxy.cut();
        return true;
      case "connections stalled":
        return this.stall(this.pick(this.proxies));
    }
  }

  private async leader(): Promise<LocalServer | undefined> {
    for (const server of this.options.ensemble.servers)
      if (/Mode: leader/.test(await fourLetterWord(server.port, "srvr"))) return server;
    return undefined;
  }

  private async restart(server: LocalServer | undefined): Promise<boolean> {
    if (!server) return false;
    await server.kill("SIGKILL");
    await this.options.clock.sleep(this.between(0, 1_000));
    await server.restart();
    return true;
  }

  private async stopServer(server: LocalServer): Promise<boolean> {
    await server.kill("SIGSTOP");
    await this.options.clock.sleep(this.between(100, 3_000));
    await server.kill("SIGCONT");
    return true;
  }

  private async stopProcess(process: HostedProcess): Promise<boolean> {
    if (!process.signal("SIGSTOP")) return false;
    await this.options.clock.sleep(this.between(100, 8_000));
    process.signal("SIGCONT");
    return true;
  }

  private async stall(proxy: TcpProxy): Promise<boolean> {
    proxy.stall(this.random() < 0.5 ? "toServer" : "toClient");
    await this.options.clock.sleep(this.between(100, 3_000));
    proxy.resume();
    return true;
  }

  private async mend(): Promise<void> {
    for (const proxy of this.proxies) proxy.resume();
    for (const server of this.options.ensemble.servers) {
      await server.kill("SIGCONT");
      if (server.pid === undefined) await server.restart();
    }
    for (const process of [this.relay, ...this.functions]) process.signal("SIGCONT");
  }

  private async settle(client: ZooKeeperClient): Promise<void> {
    const { clock, signal } = this.options;
    const { path, stat } = await client.create("/clock-", undefined, { mode: "persistent-sequential" });
    await client.delete(path);
    const untilMs = Math.ceil((stat.ctime + 1) / 1_000) * 1_000;
    const endMs = clock.now() + SETTLE_MS;
    // Relays go on until the end.
    this.isOver = false;
    const relaying = this.keepRelaying();
    try {
      for (;;) {
        const status = await readStatus(client, this.layout);
        if (status && isSettled(status, untilMs)) return;
        if (clock.now() > endMs || signal.aborted)
          throw new Error(`the pipeline has not settled: ${JSON.stringify(status)}`);
        await clock.sleep(200, signal);
      }
    } finally {
      this.isOver = true;
      this.relay.end();
      for (const each of this.functions) each.end();
      await relaying;
    }
  }

  private async judge(client: ZooKeeperClient, writer: ChaosWriter): Promise<ChaosReport> {
    const { ensemble, folder, readFiles, seed } = this.options;
    const summaries = (await readSummaries(client)).map(({ summary }) => summary);
    const evidence = { log: writer.log, acknowledged: undefined, fromTheStart: true };
    const putAside = await readPutAside(client, new DirectoryBlobs(join(folder, ".blobs")), this.layout);
    const outcome = { summaries, files: readFiles(folder), putAside, hadGap: true, isCancelled: false };
    const logs = ensemble.servers.map(({ directory }) => readTransactionLogs(directory));
    const { problems, commitIds, ...audited } = audit(mergeTransactions(logs), this.layout);
    return {
      seed,
      faults: this.faults,
      writes: writer.writes,
      elements: summaries.reduce((sum, { seen }) => sum + seen.length, 0),
      missed: summaries.reduce((sum, { missed }) => sum + missed, 0),
      fates: countFates(this.fates, commitIds),
      audit: audited,
      problems: [...compare(evidence, outcome), ...problems],
    };
  }

  private between(from: number, to: number): number {
    return from + Math.floor(this.random() * (to - from + 1));
  }

  private pick<T>(from: readonly T[]): T {
    return from[this.between(0, from.length - 1)]!;
  }
}
