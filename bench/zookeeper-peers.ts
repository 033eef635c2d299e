/** The contestants of the client benchmark: each is installed when it is asked for, and runs in a process of its own. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { createInterface } from "node:readline";
import { buildSync } from "esbuild";
import { ensureKazoo } from "../infra/zookeeper/kazoo";

const PROJECT = join(__dirname, "..");
const STATE = join(PROJECT, ".beamkeeper");
const PEERS = join(STATE, "peers");
const SOURCES = join(__dirname, "peers");
const NATIVE_VERSION = "7.3.0";
const INSTALL_TIMEOUT_MS = 300_000;
/** A walk of the slowest on a busy machine. */
const ANSWER_TIMEOUT_MS = 300_000;

const NAMES = ["ours", "bare", "node-zookeeper-client", "native", "kazoo", "java", "c"] as const;
export type Name = (typeof NAMES)[number];

/** Why a peer can't take part. */
class MissingPeerError extends Error {}

function run(command: string, args: readonly string[], cwd = PROJECT): void {
  const options = { cwd, encoding: "utf8", timeout: INSTALL_TIMEOUT_MS } as const;
  const { status, error, stderr } = spawnSync(command, args, options);
  if (status === 0) return;
  const why = error?.message ?? stderr.trim().split("\n").slice(-2).join(" ");
  throw new MissingPeerError(`${command} ${args[0]}: ${why}`);
}

/** Bundled as it is deployed: what compiles modules as they are loaded would be measured, too. */
function nodeCommand(name: string): string[] {
  const outfile = join(PEERS, `${name}.cjs`);
  buildSync({
    entryPoints: [join(SOURCES, `${name}.ts`)],
    outfile,
    bundle: true,
    platform: "node",
    target: "node20",
  });
  return [process.execPath, outfile];
}

function nativeDirectory(): string {
  if (existsSync(join(PEERS, "node_modules", "zookeeper", "package.json"))) return PEERS;
  writeFileSync(join(PEERS, "package.json"), '{ "private": true }\n');
  run(
    "npm",
    ["install", `zookeeper@${NATIVE_VERSION}`, "--no-audit", "--no-fund", "--loglevel=error"],
    PEERS,
  );
  return PEERS;
}

function serverClasspath(): string {
  const record = JSON.parse(readFileSync(join(STATE, "zookeeper-server.json"), "utf8"));
  return record.classpath.join(delimiter);
}

/** Whether what was built from a source is there and younger. */
function isCurrent(built: string, source: string): boolean {
  const file = statSync(built, { throwIfNoEntry: false });
  return file !== undefined && file.mtimeMs >= statSync(source).mtimeMs;
}

function javaCommand(): string[] {
  const source = join(SOURCES, "JavaPeer.java");
  const classpath = serverClasspath();
  if (!isCurrent(join(PEERS, "JavaPeer.class"), source))
    run("javac", ["-cp", classpath, "-d", PEERS, source]);
  const logging = `-Dlogback.configurationFile=${join(PROJECT, "infra", "zookeeper", "logback.xml")}`;
  return ["java", logging, "-cp", [PEERS, classpath].join(delimiter), "JavaPeer"];
}

function cCommand(): string[] {
  const source = join(SOURCES, "c_peer.c");
  const built = join(PEERS, "c_peer");
  const compile = () => run("cc", ["-O2", "-o", built, source, "-lzookeeper_mt", "-lpthread"]);
  if (isCurrent(built, source)) return [built];
  try {
    compile();
  } catch {
    run("apt-get", ["install", "-y", "-q", "--no-install-recommends", "libzookeeper-mt-dev"]);
    compile();
  }
  return [built];
}

function kazooCommand(): string[] {
  const python = ensureKazoo();
  if (python === undefined) throw new MissingPeerError("pip could not install kazoo");
  return [python, join(SOURCES, "kazoo_peer.py")];
}

/** A contestant that is installed, and how its program is started. */
export interface Prepared {
  readonly name: Name;
  readonly command: readonly string[];
  /** Arguments behind the connect string. */
  readonly extra: readonly string[];
}

/** Installs and builds those that are wanted, or all; and the reasons why others can't take part. */
export function prepare(wanted: readonly string[]): {
  readonly prepared: readonly Prepared[];
  readonly missing: ReadonlyMap<Name, string>;
} {
  mkdirSync(PEERS, { recursive: true });
  const prepared: Prepared[] = [];
  const missing = new Map<Name, string>();
  for (const name of NAMES.filter((each) => wanted.length === 0 || wanted.includes(each))) {
    try {
      prepared.push({ name, ...commandOf(name) });
    } catch (error) {
      missing.set(name, (error as Error).message);
    }
  }
  return { prepared, missing };
}

function commandOf(name: Name): Omit<Prepared, "name"> {
  switch (name) {
    case "native":
      return { command: nodeCommand(name), extra: [nativeDirectory()] };
    case "kazoo":
      return { command: kazooCommand(), extra: [] };
    case "java":
      return { command: javaCommand(), extra: [] };
    case "c":
      return { command: cCommand(), extra: [] };
    default:
      return { command: nodeCommand(name), extra: [] };
  }
}

export interface Answer {
  readonly operations: number;
  readonly elapsedUs: number;
  readonly cpuUs: number;
  readonly p50Us: number;
}

/** One contestant's process. */
export class Peer {
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;

  private constructor(
    readonly name: Name,
    child: ChildProcess,
  ) {
    this.#child = child;
    this.#lines = createInterface({ input: child.stdout! })[Symbol.asyncIterator]();
  }

  /** Starts and connects it; the reason where that can't be done. */
  static async start({ name, command, extra }: Prepared, connectString: string): Promise<Peer | string> {
    const [program, ...args] = command;
    const child = spawn(program!, [...args, connectString, ...extra], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    // What is written to a program that has ended; its output tells of it, too.
    child.stdin!.on("error", () => undefined);
    const failed = new Promise<string>((done) => child.once("error", ({ message }) => done(message)));
    const peer = new Peer(name, child);
    const ready = peer.#line("ready").then(
      () => peer,
      (error: Error) => error.message,
    );
    return Promise.race([ready, failed]);
  }

  /** Undefined where the client can't do it. */
  async ask(row: string, inFlight: number, ms: number, tag: string): Promise<Answer | undefined> {
    this.#child.stdin!.write(`${row} ${inFlight} ${ms} ${tag}\n`);
    const line = await this.#line(`the answer to ${row}`);
    if (line === "-") return undefined;
    const [operations, elapsedUs, cpuUs, p50Us] = line.split(" ").map(Number);
    return { operations: operations!, elapsedUs: elapsedUs!, cpuUs: cpuUs!, p50Us: p50Us! };
  }

  stop(): void {
    this.#child.kill("SIGKILL");
  }

  async #line(what: string): Promise<string> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, fail) => {
      timer = setTimeout(
        () => fail(new Error(`${this.name} did not give ${what} in time`)),
        ANSWER_TIMEOUT_MS,
      );
    });
    try {
      const { value, done } = await Promise.race([this.#lines.next(), late]);
      if (done) throw new MissingPeerError(`its program ended before ${what}`);
      return value;
    } finally {
      clearTimeout(timer);
    }
  }
}
