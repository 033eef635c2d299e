import { spawn } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";

const PROJECT = join(__dirname, "../..");
const COPIED = ["functions", "infra", "lib", "pipelines", "package.json", "serverless.yml"];
const SERVERLESS = "node_modules/serverless/bin/serverless.js";

/** The environment of someone who has nothing set up: no ensemble, no credentials, no settings of AWS's tools. */
export function bareEnvironment(): NodeJS.ProcessEnv {
  const kept = Object.entries(process.env).filter(
    ([name]) => !/^(AWS_|ZOOKEEPER_|BEAMKEEPER_|SLS_|JEST_)/.test(name),
  );
  const nowhere = join(tmpdir(), "there-is-no-such-file");
  return { ...Object.fromEntries(kept), AWS_SHARED_CREDENTIALS_FILE: nowhere, AWS_CONFIG_FILE: nowhere };
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

  /** Runs `serverless` and resolves with what it printed; rejects with the same where it fails. */
  serverless(...args: string[]): Promise<string> {
    const child = spawn(process.execPath, ["--no-warnings", SERVERLESS, ...args], {
      cwd: this.folder,
      env: { ...bareEnvironment(), ...this.environment },
      stdio: ["ignore", "pipe", "pipe"],
    });
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
