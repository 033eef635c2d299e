/** A real Kafka broker in ZooKeeper mode, from the jars of pom.xml. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { ensureJars } from "../../../infra/maven";

const JARS = join(resolve(__dirname, "../../.."), ".beamkeeper", "kafka-3.9.1");

export class KafkaBroker {
  private output = "";
  private constructor(
    private readonly child: ChildProcess,
    private readonly directory: string,
  ) {
    const collect = (chunk: Buffer): void => {
      this.output = `${this.output}${chunk}`.slice(-5_000);
    };
    child.stdout!.on("data", collect);
    child.stderr!.on("data", collect);
  }

  /** Listens on a free port of loopback, which it registers. */
  static start(id: number, zookeeper: string): KafkaBroker {
    ensureJars(join(__dirname, "pom.xml"), JARS);
    const directory = mkdtempSync(join(tmpdir(), "beamkeeper-kafka-"));
    const properties = {
      "broker.id": id,
      listeners: "PLAINTEXT://127.0.0.1:0",
      "log.dirs": join(directory, "log"),
      "zookeeper.connect": zookeeper,
      "offsets.topic.replication.factor": 1,
      "zookeeper.session.timeout.ms": 60_000,
      "group.initial.rebalance.delay.ms": 0,
    };
    const file = join(directory, "server.properties");
    const lines = Object.entries(properties).map(([name, value]) => `${name}=${value}\n`);
    writeFileSync(file, lines.join(""));
    const jvm = ["-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", `${JARS}/*`];
    const child = spawn("java", [...jvm, "kafka.Kafka", file], { cwd: directory });
    return new KafkaBroker(child, directory);
  }

  get log(): string {
    return this.output;
  }

  async stop(signal: "SIGTERM" | "SIGKILL" = "SIGTERM"): Promise<void> {
    if (this.child.exitCode === null && this.child.signalCode === null) {
      const gone = once(this.child, "exit");
      this.child.kill(signal);
      await gone;
    }
    rmSync(this.directory, { recursive: true, force: true });
  }
}
