/**
 * Starts real ZooKeeper servers on this machine: for `npm start` and for the tests. A server listens on
 * loopback only, keeps its data in a temporary folder, and never outlives the process that started it.
 */
import { type ChildProcess, spawn } from "node:child_process";
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { delimiter, join, resolve } from "node:path";
import { setTimeout as delay } from "node:timers/promises";

const PROJECT_DIRECTORY = resolve(__dirname, "../..");
const SERVER_RECORD = join(PROJECT_DIRECTORY, ".beamkeeper", "zookeeper-server.json");
const DEBIAN_JARS = "/usr/share/java";
const DEBIAN_CLASSPATH = ["zookeeper", "slf4j-simple"].map((name) => join(DEBIAN_JARS, `${name}.jar`));
/** What TLS needs, and the manifest of Debian's package leaves out. */
const DEBIAN_TLS = ["codec", "resolver", "transport-native-unix-common"].map((name) =>
  join(DEBIAN_JARS, `netty-${name}.jar`),
);
const LEASH = join(__dirname, "../leash.sh");
const START_DEADLINE_MS = 60_000;
const POLL_INTERVAL_MS = 20;
const PORT_ATTEMPTS = 5;
/** A small heap and no second compiler: these servers live for seconds, and there are many of them. */
const HEAP_MB = 256;
const JVM_FLAGS = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:+PerfDisableSharedMem"];

export interface ZooKeeperServerOptions {
  /** One standalone server, or an ensemble of three (default: 1). */
  readonly servers?: 1 | 3;
  /** Lines of zoo.cfg, on top of the defaults. */
  readonly config?: Readonly<Record<string, string>>;
  /** The most that a server's heap may take, in MB (default: 256); a million znodes take some 600. */
  readonly heapMb?: number;
  /** Java system properties, such as `{ "jute.maxbuffer": "2097152" }`. */
  readonly properties?: Readonly<Record<string, string>>;
  /** `installed`: what set-up fetched (default). `system`: Debian's package, where it is installed. */
  readonly version?: "installed" | "system";
  /** Client ports to listen on, one for each server (default: free ones). */
  readonly ports?: readonly number[];
}

export interface LocalServer {
  readonly id: number;
  readonly port: number;
  /** host:port */
  readonly address: string;
  /** Its data, configuration and log. */
  readonly directory: string;
  /** The JVM's process id, undefined while it isn't running. */
  readonly pid: number | undefined;
  /** What the server has logged. */
  log(): string;
  /** Sends a signal (default SIGKILL); resolves when the server is gone, or at once for SIGSTOP and SIGCONT. */
  kill(signal?: NodeJS.Signals): Promise<void>;
  /** Kills the server if it runs, starts it on the same port and data, and waits until it serves. */
  restart(): Promise<void>;
}

export interface LocalZooKeeper {
  /** h1:p1,h2:p2 */
  readonly connectString: string;
  readonly version: string;
  readonly servers: readonly LocalServer[];
  /** Kills the servers and removes their data. May be called twice. */
  stop(): Promise<void>;
}

interface Distribution {
  readonly version: string;
  readonly classpath: readonly string[];
}

interface Ports {
  readonly client: number;
  readonly quorum: number;
  readonly election: number;
}

/** The server could not bind: another process took the port between our looking and its start. */
class PortTakenError extends Error {}

function findDistribution(version: "installed" | "system"): Distribution {
  if (version === "system") {
    if (DEBIAN_CLASSPATH.every((path) => existsSync(path)))
      return { version: "system", classpath: [...DEBIAN_CLASSPATH, ...DEBIAN_TLS.filter(existsSync)] };
    throw new Error(
      "The system's ZooKeeper is not installed: apt-get install libzookeeper-java libslf4j-java.",
    );
  }
  if (!existsSync(SERVER_RECORD)) {
    throw new Error(
      "No ZooKeeper server is installed for this project. Run `npm start` or `npm test`, which set it up.",
    );
  }
  return JSON.parse(readFileSync(SERVER_RECORD, "utf8")) as Distribution;
}

/** Free ports, held open together so that they differ. */
async function freePorts(count: number): Promise<number[]> {
  const holders = await Promise.all(
    Array.from({ length: count }, async () => {
      const holder = createServer();
      await new Promise<void>((done, fail) => holder.once("error", fail).listen(0, "127.0.0.1", done));
      return holder;
    }),
  );
  const ports = holders.map((holder) => (holder.address() as { port: number }).port);
  await Promise.all(holders.map((holder) => new Promise((done) => holder.close(done))));
  return ports;
}

/** A four-letter-word command; empty when there is no answer within a second. */
export function fourLetterWord(port: number, word: string): Promise<string> {
  return new Promise((done) => {
    let answer = "";
    const socket = connect({ host: "127.0.0.1", port }, () => socket.write(word));
    socket.setTimeout(1_000, () => socket.destroy());
    socket.on("data", (chunk) => {
      answer += chunk.toString();
    });
    socket.on("error", () => undefined);
    socket.on("close", () => done(answer));
  });
}

class Server implements LocalServer {
  pid: number | undefined;
  #leash: ChildProcess | undefined;
  #ended: Promise<void> = Promise.resolve();

  constructor(
    readonly id: number,
    private readonly ports: Ports,
    readonly directory: string,
    private readonly distribution: Distribution,
    private readonly options: Pick<ZooKeeperServerOptions, "properties" | "heapMb">,
  ) {}

  get port(): number {
    return this.ports.client;
  }

  get address(): string {
    return `127.0.0.1:${this.ports.client}`;
  }

  get #logFile(): string {
    return join(this.directory, "server.log");
  }

  log(): string {
    return existsSync(this.#logFile) ? readFileSync(this.#logFile, "utf8") : "";
  }

  configure(lines: Readonly<Record<string, string>>): void {
    mkdirSync(this.directory, { recursive: true });
    writeFileSync(join(this.directory, "myid"), `${this.id}\n`);
    const text = Object.entries(lines).map(([key, value]) => `${key}=${value}\n`);
    writeFileSync(join(this.directory, "zoo.cfg"), text.join(""));
  }

  #command(): string[] {
    const properties = {
      "logback.configurationFile": join(__dirname, "logback.xml"),
      "org.slf4j.simpleLogger.defaultLogLevel": "warn",
      ...this.options.properties,
    };
    return [
      "java",
      `-Xmx${this.options.heapMb ?? HEAP_MB}m`,
      ...JVM_FLAGS,
      ...Object.entries(properties).map(([key, value]) => `-D${key}=${value}`),
      "-cp",
      this.distribution.classpath.join(delimiter),
      "org.apache.zookeeper.server.quorum.QuorumPeerMain",
      join(this.directory, "zoo.cfg"),
    ];
  }

  async launch(): Promise<void> {
    const log = openSync(this.#logFile, "a");
    // A process group of its own: ctrl-C in a terminal reaches the parent only, which then stops us in order.
    const leash = spawn("/bin/sh", [LEASH, this.directory, ...this.#command()], {
      stdio: ["pipe", log, log, "pipe"],
      detached: true,
    });
    closeSync(log);
    this.#leash = leash;
    this.#ended = new Promise((done) => leash.once("close", () => done()));
    void this.#ended.then(() => {
      if (this.#leash === leash) this.pid = this.#leash = undefined;
    });
    this.pid = await readPid(leash);
  }

  async untilServing(): Promise<void> {
    const deadline = Date.now() + START_DEADLINE_MS;
    while (!/^Mode: /m.test(await fourLetterWord(this.port, "srvr"))) {
      const log = this.log();
      if (/BindException|Address already in use/.test(log)) throw new PortTakenError(log);
      if (this.pid === undefined || Date.now() > deadline) {
        const tail = log.split("\n").slice(-15).join("\n");
        throw new Error(`The ZooKeeper server ${this.id} on ${this.address} did not start:\n${tail}`);
      }
      await delay(POLL_INTERVAL_MS);
    }
  }

  async kill(signal: NodeJS.Signals = "SIGKILL"): Promise<void> {
    if (this.pid === undefined) return;
    process.kill(this.pid, signal);
    if (signal !== "SIGSTOP" && signal !== "SIGCONT") await this.#ended;
  }

  async restart(): Promise<void> {
    await this.kill();
    rmSync(this.#logFile, { force: true });
    await this.launch();
    await this.untilServing();
  }
}

function readPid(leash: ChildProcess): Promise<number> {
  return new Promise((done, fail) => {
    let text = "";
    leash.once("error", fail);
    leash.stdio[3]!.on("data", (chunk: Buffer) => {
      text += chunk.toString();
    });
    leash.stdio[3]!.on("close", () =>
      text ? done(Number(text)) : fail(new Error("The server's launcher failed.")),
    );
  });
}

/** zoo.cfg of one server: everything on loopback, and the ensemble's members where there are several. */
function configuration(
  directory: string,
  id: number,
  ports: readonly Ports[],
  extra: Readonly<Record<string, string>>,
) {
  const lines: Record<string, string> = {
    dataDir: directory,
    clientPort: String(ports[id - 1]!.client),
    clientPortAddress: "127.0.0.1",
    tickTime: "2000",
    "admin.enableServer": "false",
    "4lw.commands.whitelist": "*",
  };
  if (ports.length > 1) {
    Object.assign(lines, { initLimit: "20", syncLimit: "10", standaloneEnabled: "false" });
    ports.forEach((port, index) => {
      lines[`server.${index + 1}`] = `127.0.0.1:${port.quorum}:${port.election}`;
    });
  }
  return { ...lines, ...extra };
}

async function choosePorts(count: number, clientPorts: readonly number[] | undefined): Promise<Ports[]> {
  const free = await freePorts(count * 3);
  return Array.from({ length: count }, (_, index) => ({
    client: clientPorts?.[index] ?? free[index * 3]!,
    quorum: free[index * 3 + 1]!,
    election: free[index * 3 + 2]!,
  }));
}

async function startOnce(
  options: ZooKeeperServerOptions,
  distribution: Distribution,
): Promise<LocalZooKeeper> {
  const ports = await choosePorts(options.servers ?? 1, options.ports);
  const base = mkdtempSync(join(tmpdir(), "beamkeeper-zookeeper-"));
  const servers = ports.map(
    (port, index) => new Server(index + 1, port, join(base, String(index + 1)), distribution, options),
  );
  const stop = async () => {
    await Promise.all(servers.map((server) => server.kill()));
    rmSync(base, { recursive: true, force: true });
  };
  try {
    for (const server of servers) {
      server.configure(configuration(join(base, String(server.id)), server.id, ports, options.config ?? {}));
      await server.launch();
    }
    await Promise.all(servers.map((server) => server.untilServing()));
  } catch (error) {
    await stop();
    throw error;
  }
  const connectString = servers.map((server) => server.address).join(",");
  return { connectString, version: distribution.version, servers, stop };
}

/** Starts one server or an ensemble of three, and resolves when each of them serves. */
export async function startZooKeeper(options: ZooKeeperServerOptions = {}): Promise<LocalZooKeeper> {
  const distribution = findDistribution(options.version ?? "installed");
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await startOnce(options, distribution);
    } catch (error) {
      if (!(error instanceof PortTakenError) || attempt === PORT_ATTEMPTS || options.ports) throw error;
    }
  }
}
