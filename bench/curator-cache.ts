/** Curator's cache of a tree as a contestant of the relay: a Java program of its own, warm from round to round. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { ensureJars } from "../infra/maven";
import type { Contestant } from "./relay-contestants";

const PROJECT = join(__dirname, "..");
const JARS = join(PROJECT, ".beamkeeper", "curator-5.8.0");
const CLASSES = join(PROJECT, ".beamkeeper", "peers");
const SOURCE = join(__dirname, "peers", "CuratorPeer.java");

export class CuratorCache {
  readonly #lines: AsyncIterator<string>;

  private constructor(private readonly child: ChildProcess) {
    this.#lines = createInterface({ input: child.stdout! })[Symbol.asyncIterator]();
  }

  /** Fetches, compiles and starts it; the reason where that can't be done. */
  static start(connectString: string): CuratorCache | string {
    try {
      ensureJars(join(__dirname, "peers", "curator", "pom.xml"), JARS);
    } catch (error) {
      return (error as Error).message;
    }
    const classpath = `${JARS}/*`;
    const { status, error, stderr } = spawnSync("javac", ["-cp", classpath, "-d", CLASSES, SOURCE], {
      encoding: "utf8",
    });
    if (status !== 0) return `javac: ${error?.message ?? stderr}`;
    const args = ["-Xmx512m", "-cp", `${CLASSES}:${classpath}`, "CuratorPeer", connectString];
    return new CuratorCache(spawn("java", args, { stdio: ["pipe", "pipe", "inherit"] }));
  }

  contestant(): Contestant {
    return {
      watch: async ({ root, writes, znodes }) => {
        this.child.stdin!.write(`watch ${root} ${writes} ${znodes}\n`);
        await this.#line();
      },
      results: async () => {
        this.child.stdin!.write("results\n");
        const cpuUs = Number(await this.#line());
        const seenAtMs: number[] = [];
        for (let line = await this.#line(); line !== "end"; line = await this.#line()) {
          const [value, nanos] = line.split(" ").map(Number);
          seenAtMs[value!] = nanos! / 1e6;
        }
        return { seenAtMs, cpuUs };
      },
    };
  }

  stop(): void {
    this.child.kill("SIGKILL");
  }

  async #line(): Promise<string> {
    const { value, done } = await this.#lines.next();
    if (done) throw new Error("the program of CuratorCache ended");
    return value;
  }
}
