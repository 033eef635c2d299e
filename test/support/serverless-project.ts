import { type ChildProcessByStdio, spawn } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import type { Readable } from "node:stream";

const PROJECT = join(__dirname, "../..");
const COPIED = ["functions", "infra", "lib", "pipelines", "package.json", "serverless.yml"];
const SERVERLESS = "node_modules/serverless/bin/serverless.js";

/** A pipeline that reads events of every service. */
export const EVENTS_PIPELINE = `import { P, flatten } from "apache-beam";
import { definePipeline, readEvents, writeToZnodes } from "beamkeeper";
export default definePipeline({
  name: "orders",
  build: (root) => {
    const sources = [
      readEvents({ name: "queue", from: "sqs", queue: "orders-{stage}", batchSize: 50, batchWindowSeconds: 2 }),
      readEvents({ name: "stream", from: "kinesis", stream: "arn:aws:kinesis:us-east-1:000000000000:stream/clicks" }),
      readEvents({ name: "bucket", from: "s3", bucket: "uploads-{stage}", prefix: "in/" }),
      readEvents({ name: "bus", from: "eventbridge", pattern: { source: ["shop"] }, bus: "shop" }),
      readEvents({ from: "direct" }),
    ];
    P(sources.map((source) => root.apply(source)))
      .apply(flatten())
      .apply(writeToZnodes(({ id }) => ({ path: "/orders/" + id, data: "" })));
  },
});
`;

/** The environment of someone who has nothing set up: no ensemble, no credentials, no settings of AWS's tools. */
export function bareEnvironment(): NodeJS.ProcessEnv {
  const kept = Object.entries(process.env).filter(
    ([name]) => !/^(AWS_|ZOOKEEPER_|BEAMKEEPER_|SLS_|JEST_)/.test(name),
  );
  const nowhere = join(tmpdir(), "there-is-no-such-file");
  return { ...Object.fromEntries(kept), AWS_SHARED_CREDENTIALS_FILE: nowhere, AWS_CONFIG_FILE: nowhere };
}

/** A command of `serverless` that goes on. */
export interface RunningServerless {
  /** What it has printed. */
  output(): string;
  /** Resolves once it has printed this; rejects where it ends before. */
  says(pattern: RegExp): Promise<void>;
  /** Kills it. May be called twice. */
  stop(): Promise<void>;
}

/** A copy of this project in a folder of its own, so that its pipelines can be others, and packages don't collide. */
export class ServerlessProject {
  readonly folder = mkdtempSync(join(tmpdir(), "beamkeeper-service-"));

  constructor(private readonly environment: Readonly<Record<string, string>> = {}) {
    for (const name of COPIED) cpSync(join(PROJECT, name), join(this.folder, name), { recursive: true });
    symlinkSync(join(PROJECT, "node_modules"), join(this.folder, "node_modules"));
  }

  path(...parts: string[]): string {
    return join(this.folder, ...parts);
  }

  write(file: string, text: string): void {
    mkdirSync(dirname(this.path(file)), { recursive: true });
    writeFileSync(this.path(file), text);
  }

  removeFolder(name: string): void {
    rmSync(this.path(name), { recursive: true });
  }

  /** Starts `serverless` with a command that goes on until it is stopped. */
  start(...args: string[]): RunningServerless {
    const child = this.spawn(args, true);
    let output = "";
    let changed = (): void => undefined;
    const ended = new Promise<void>((done) => child.once("close", () => done()));
    const hear = (chunk: Buffer): void => {
      output += chunk.toString();
      changed();
    };
    for (const stream of [child.stdout, child.stderr]) stream.on("data", hear);
    child.once("close", () => changed());
    const isOver = (): boolean => child.exitCode !== null || child.signalCode !== null;
    return {
      output: () => output,
      async says(pattern) {
        while (!pattern.test(output)) {
          if (isOver()) throw new Error(`serverless ${args.join(" ")} ended:\n${output}`);
          await new Promise<void>((done) => {
            changed = done;
          });
        }
      },
      async stop() {
        // With all that it has started.
        if (!isOver()) process.kill(-child.pid!, "SIGKILL");
        await ended;
      },
    };
  }

  private spawn(args: readonly string[], detached: boolean): ChildProcessByStdio<null, Readable, Readable> {
    return spawn(process.execPath, ["--no-warnings", SERVERLESS, ...args], {
      cwd: this.folder,
      env: { ...bareEnvironment(), ...this.environment },
      stdio: ["ignore", "pipe", "pipe"],
      detached,
    });
  }

  /** Runs `serverless` and resolves with what it printed; rejects with the same where it fails. */
  serverless(...args: string[]): Promise<string> {
    const child = this.spawn(args, false);
    let output = "";
    for (const stream of [child.stdout, child.stderr]) {
      stream.on("data", (chunk: Buffer) => {
        output += chunk.toString();
      });
    }
    return new Promise((resolve, reject) => {
      child.once("error", reject);
      child.once("close", (code) =>
        code === 0 ? resolve(output) : reject(new Error(`serverless ${args.join(" ")} failed:\n${output}`)),
      );
    });
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}
