import { type ChildProcess, spawn } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { connect as connectSocket } from "node:net";
import { join } from "node:path";
import { connect, type ZooKeeperClient } from "../../lib/zookeeper";
import { temporaryFolder } from "../support/deployment";
import { startZooKeeper } from "../support/zookeeper-server";

const PROJECT = join(__dirname, "../..");

let folder: ReturnType<typeof temporaryFolder>;

beforeAll(() => {
  folder = temporaryFolder();
});

afterAll(() => folder.remove());

interface Running {
  readonly child: ChildProcess;
  readonly output: () => string;
  readonly ended: Promise<{ code: number | null; output: string }>;
}

function node(args: readonly string[], environment: Readonly<Record<string, string>> = {}): Running {
  const { ZOOKEEPER_CONNECT: _, ...inherited } = process.env;
  const child = spawn(process.execPath, args, {
    cwd: PROJECT,
    env: { ...inherited, ...environment },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on("data", (chunk) => {
      output += chunk;
    });
  }
  const ended = new Promise<{ code: number | null; output: string }>((resolve) =>
    child.once("close", (code) => resolve({ code, output })),
  );
  return { child, output: () => output, ended };
}

let starts = 0;

function start(...args: string[]): Running {
  return node(["infra/setup.mjs", "start", ...args], {
    BEAMKEEPER_OUTPUT: join(folder.path, `start-${++starts}`),
  });
}

async function until(condition: () => boolean, running: Running): Promise<void> {
  const ended = running.ended.then(({ output }) => {
    throw new Error(`it ended too early:\n${output}`);
  });
  ended.catch(() => undefined);
  const met = async (): Promise<void> => {
    while (!condition()) await new Promise((resolve) => setTimeout(resolve, 20));
  };
  await Promise.race([met(), ended]);
}

function isListening(address: string): Promise<boolean> {
  const [host, port] = address.split(":");
  return new Promise((resolve) => {
    const socket = connectSocket(Number(port), host);
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
  });
}

test.each([1, 4])("the classic example, every stage with %i shards", async (shards) => {
  const { ended } = start(
    "--shards",
    `${shards}`,
    "--seconds",
    "2",
    "--writes",
    "600",
    "--znodes",
    "80",
    "--seed",
    "7",
  );
  const { code, output } = await ended;
  expect(output).toMatch(/Every final value arrived once; nothing was lost or counted twice/);
  expect(output).toMatch(new RegExp(`groupBy x ${shards}`));
  expect(output).toMatch(/writes acknowledged +600\n/);
  expect(code).toBe(0);
});

test.each(["SIGINT", "SIGTERM"] as const)("%s stops everything that was started", async (signal) => {
  const running = start("--seconds", "60");
  await until(() => running.output().includes("Writing"), running);
  const address = /127\.0\.0\.1:\d+/.exec(running.output())![0];
  expect(await isListening(address)).toBe(true);
  running.child.kill(signal);
  const { code } = await running.ended;
  expect(code).toBe(130);
  expect(await isListening(address)).toBe(false);
});

test("--keep goes on, takes writes of any client, and ends well with ctrl-C", async () => {
  const running = start("--keep", "--seconds", "1", "--writes", "50");
  await until(() => running.output().includes("Ctrl-C stops"), running);
  const address = /127\.0\.0\.1:\d+/.exec(running.output())![0];
  const client = await connect({ connectString: address });
  await client.create("/app/by-hand", Buffer.from("hello"));
  await until(() => running.output().includes("(+1)"), running);
  await client.close();
  running.child.kill("SIGINT");
  expect((await running.ended).code).toBe(0);
});

describe("the oracle", () => {
  const window = "2026-01-01T00:00:00.000Z";
  const write = { op: "create", path: "/app/a", value: "v1", sentMs: 1, ackMs: 1, mtimeMs: null };
  const result = { path: "/app/a", window, values: ["v1"], last: "v1", missed: 0, atLeast: false };
  let ensemble: Awaited<ReturnType<typeof startZooKeeper>>;
  let client: ZooKeeperClient;
  let cases = 0;

  beforeAll(async () => {
    ensemble = await startZooKeeper();
    client = await connect({ connectString: ensemble.connectString });
  });

  afterAll(async () => {
    await client?.close();
    await ensemble?.stop();
  });

  async function ask(log: readonly object[], results: readonly (typeof result)[], lines: readonly object[]) {
    const name = `oracle-${++cases}`;
    const files = join(folder.path, name);
    mkdirSync(files);
    const text = (rows: readonly object[]): string => rows.map((row) => `${JSON.stringify(row)}\n`).join("");
    writeFileSync(join(files, "log"), text(log));
    writeFileSync(join(files, "part-00000-of-00001.jsonl"), text(lines));
    await client.create(`/${name}`);
    await client.create(`/${name}/${window}`);
    for (const [index, row] of results.entries()) {
      await client.create(`/${name}/${window}/${index}`, Buffer.from(JSON.stringify(row)));
    }
    const paths = ["--log", join(files, "log"), "--results", `/${name}`, "--files", files];
    return node(["infra/demo/oracle.mjs", "--connect", ensemble.connectString, ...paths]).ended;
  }

  test("is content with what is right", async () => {
    expect((await ask([write], [result], [result])).code).toBe(0);
  });

  test.each([
    [
      "a lost final value",
      [write, { ...write, op: "change", value: "v2" }],
      [result],
      [result],
      /the final value is v2, the last result says v1/,
    ],
    [
      "a znode of which nothing arrived",
      [write, { ...write, path: "/app/b" }],
      [result],
      [result],
      /nothing of its 1 writes arrived/,
    ],
    [
      "a value that is delivered twice",
      [write],
      [{ ...result, values: ["v1", "v1"] }],
      [{ ...result, values: ["v1", "v1"] }],
      /delivered twice/,
    ],
    [
      "a value that is counted twice",
      [write],
      [{ ...result, missed: 1 }],
      [{ ...result, missed: 1 }],
      /1 values were written, 1 delivered and 1 counted as missed/,
    ],
    [
      "a value that nobody wrote",
      [write],
      [{ ...result, values: ["v1", "v9"] }],
      [{ ...result, values: ["v1", "v9"] }],
      /v9.* was never written/,
    ],
    ["a line that is there twice", [write], [result], [result, result], /in the text files 2 times/],
    ["a line that is missing", [write], [result], [], /in the text files 0 times/],
  ] as const)("finds %s", async (_name, log, results, lines, message) => {
    const { code, output } = await ask(log, results as never, lines);
    expect(output).toMatch(message);
    expect(code).toBe(1);
  });
});
