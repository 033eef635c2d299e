/**
 * Starts the AWS emulator on this machine, for tests and benchmarks: loopback only, a free port, nothing kept. Functions
 * run as processes of Node. It never outlives the process that started it.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { setTimeout as delay } from "node:timers/promises";

const HERE = __dirname;
const FOLDER = resolve(HERE, "../../.beamkeeper/emulator");
const STAMP = join(FOLDER, "installed");
const LEASH = join(HERE, "../leash.sh");
const START_DEADLINE_MS = 60_000;
const POLL_INTERVAL_MS = 50;

export interface Emulator {
  /** http://127.0.0.1:port */
  readonly endpoint: string;
  /** The environment in which AWS's tools and clients talk to it. */
  readonly environment: Readonly<Record<string, string>>;
  /** What it has logged, the functions' output among it. */
  log(): string;
  /** Kills it with the functions that it runs, and removes what it kept. May be called twice. */
  stop(): Promise<void>;
}

/** False where `npm test` could not install the emulator. */
export function isEmulatorInstalled(): boolean {
  return (
    existsSync(STAMP) && readFileSync(STAMP, "utf8") === readFileSync(join(HERE, "requirements.txt"), "utf8")
  );
}

/** The linter of templates, which is installed together with the emulator. */
export const CFN_LINT = join(FOLDER, "bin", "cfn-lint");

/** Starts it; `environment` is added to its own, which functions inherit. */
export async function startEmulator(environment: Readonly<Record<string, string>> = {}): Promise<Emulator> {
  const directory = mkdtempSync(join(tmpdir(), "beamkeeper-emulator-"));
  const port = await freePort();
  const endpoint = `http://127.0.0.1:${port}`;
  const logFile = join(directory, "log");
  const log = (): string => readFileSync(logFile, "utf8");
  const output = openSync(logFile, "a");
  const leash = spawn("/bin/sh", [LEASH, directory, join(FOLDER, "bin", "ministack")], {
    stdio: ["pipe", output, output, "pipe"],
    detached: true,
    env: { ...bareEnvironment(), ...settings(port, directory), ...environment },
  });
  closeSync(output);
  const ended = new Promise<void>((done) => leash.once("close", () => done()));
  const stop = async (): Promise<void> => {
    // The emulator's functions are in its process group, and go with it.
    if (leash.exitCode === null && leash.signalCode === null) process.kill(-leash.pid!, "SIGKILL");
    await ended;
    rmSync(directory, { recursive: true, force: true });
  };
  try {
    await untilServing(endpoint, leash, log);
  } catch (error) {
    await stop();
    throw error;
  }
  const credentials = { AWS_ACCESS_KEY_ID: "test", AWS_SECRET_ACCESS_KEY: "test", AWS_REGION: "us-east-1" };
  return { endpoint, environment: { AWS_ENDPOINT_URL: endpoint, ...credentials }, log, stop };
}

/** Settings of AWS's tools and of Beamkeeper would reach the functions. */
function bareEnvironment(): NodeJS.ProcessEnv {
  const isOurs = (name: string): boolean => /^(AWS_|ZOOKEEPER_|BEAMKEEPER_|SLS_|NODE_|JEST_)/.test(name);
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !isOurs(name)));
}

function settings(port: number, directory: string): Record<string, string> {
  return {
    BIND_HOST: "127.0.0.1",
    GATEWAY_PORT: String(port),
    TMPDIR: directory,
    // Calls are checked against the policies of the roles that make them.
    AUTH: "true",
    // Services that would listen on ports of their own.
    IOT_MTLS_ENABLED: "0",
    SFTP_ENABLED: "0",
  };
}

async function untilServing(endpoint: string, leash: ChildProcess, log: () => string): Promise<void> {
  const deadline = Date.now() + START_DEADLINE_MS;
  for (;;) {
    const isServing = await fetch(`${endpoint}/_ministack/health`).then(
      ({ ok }) => ok,
      () => false,
    );
    if (isServing) return;
    if (leash.exitCode !== null || Date.now() > deadline) {
      throw new Error(`The AWS emulator did not start:\n${log().split("\n").slice(-15).join("\n")}`);
    }
    await delay(POLL_INTERVAL_MS);
  }
}

/** A port of this machine that nothing listens on. */
export async function freePort(): Promise<number> {
  const holder = createServer();
  await new Promise<void>((done, fail) => holder.once("error", fail).listen(0, "127.0.0.1", done));
  const { port } = holder.address() as { port: number };
  await new Promise((done) => holder.close(done));
  return port;
}
