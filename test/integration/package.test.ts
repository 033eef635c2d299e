/**
 * What `npm pack` makes, in an empty project: the README's pipeline compiles under strict, runs, and is packaged for
 * Lambda. The packages that it depends on are this project's own, linked, so that no registry is asked.
 */
import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process";
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ensureNode, NODE_VERSIONS } from "../../infra/node/versions";
import { connect } from "../../lib/zookeeper";
import { commandOf, instructionsOf } from "../support/dockerfile";
import { bareEnvironment } from "../support/serverless-project";
import { zipEntries } from "../support/zip-entries";
import { type LocalZooKeeper, startZooKeeper } from "../support/zookeeper-server";

const PROJECT = join(__dirname, "../..");
const COMMAND = "node_modules/beamkeeper/bin/beamkeeper.mjs";

const TEST = `import "apache-beam";
import type { ZnodeChange } from "beamkeeper";
import { runPipeline, TestStream, znodeChange } from "beamkeeper/testing";
import flaps from "../pipelines/mine";
const changes = new TestStream<ZnodeChange>().at(500, znodeChange({ path: "/dubbo/orders/providers/1" }));
runPipeline(flaps, { sources: { readZnodeChanges: changes } }).then(({ znodes }) => console.log(JSON.stringify(znodes)));
`;

let folder: string;
let ensemble: LocalZooKeeper;
let running: ChildProcess | undefined;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "beamkeeper-package-"));
  ensemble = await startZooKeeper();
  const packed = execFileSync("npm", ["pack", "--silent", "--pack-destination", folder], {
    cwd: PROJECT,
    encoding: "utf8",
  });
  execFileSync("tar", ["-xzf", join(folder, packed.trim().split("\n").at(-1)!), "-C", folder]);
  installLinked();
  const [, example] = /```ts\n([\s\S]*?)```/.exec(readFileSync(join(PROJECT, "README.md"), "utf8"))!;
  mkdirSync(join(folder, "pipelines"));
  writeFileSync(join(folder, "pipelines/mine.ts"), example!);
  mkdirSync(join(folder, "test"));
  writeFileSync(join(folder, "test/mine.ts"), TEST);
});

afterAll(async () => {
  running?.kill("SIGKILL");
  await ensemble?.stop();
  rmSync(folder, { recursive: true, force: true });
});

function installLinked(): void {
  const modules = join(folder, "node_modules");
  mkdirSync(modules);
  for (const name of readdirSync(join(PROJECT, "node_modules")))
    symlinkSync(join(PROJECT, "node_modules", name), join(modules, name));
  renameSync(join(folder, "package"), join(modules, "beamkeeper"));
  writeFileSync(join(folder, "package.json"), '{ "name": "mine", "private": true }\n');
}

function node(...args: string[]): string {
  return nodeOf(process.execPath, ...args);
}

function nodeOf(executable: string, ...args: string[]): string {
  return execFileSync(executable, ["--no-warnings", ...args], {
    cwd: folder,
    env: { ...bareEnvironment(), ZOOKEEPER_CONNECT: ensemble.connectString },
    encoding: "utf8",
    // What it says on the standard error is in the message of the error when it fails, and nowhere else.
    stdio: ["ignore", "pipe", "pipe"],
  });
}

test("the package names every package that its code imports", () => {
  const own = JSON.parse(readFileSync(join(folder, "node_modules/beamkeeper/package.json"), "utf8"));
  const names = new Set<string>();
  const visit = (path: string): void => {
    for (const entry of readdirSync(path, { withFileTypes: true })) {
      if (entry.isDirectory()) visit(join(path, entry.name));
      else if (entry.name.endsWith(".js"))
        for (const [, name] of readFileSync(join(path, entry.name), "utf8").matchAll(
          /require\("((?:@[^/"]+\/)?[a-z][^/"]*)(?:\/[^"]*)?"\)/g,
        ))
          names.add(name!);
    }
  };
  for (const part of ["dist", "infra"]) visit(join(folder, "node_modules/beamkeeper", part));
  const isKnown = (name: string): boolean =>
    name.startsWith("node:") || name in own.dependencies || name === "beamkeeper" || name === "protobufjs";
  expect([...names].filter((name) => !isKnown(name))).toEqual([]);
});

test("the README's pipeline compiles under strict, against the package's own declarations", () => {
  const compilerOptions = { strict: true, module: "nodenext", target: "es2022", noEmit: true };
  writeFileSync(
    join(folder, "tsconfig.json"),
    JSON.stringify({ compilerOptions, include: ["pipelines", "test"] }),
  );
  expect(node("node_modules/typescript/bin/tsc", "-p", ".")).toBe("");
});

const NODES: readonly [string, () => string][] = [
  [process.version, () => process.execPath],
  [`v${NODE_VERSIONS[24]}`, () => ensureNode(24)],
];

test.each(NODES)("it is tested with the package's testing kit: Node %s", (_, executable) => {
  const kit = ["--import", "beamkeeper/register", "--import", "tsx"];
  const printed = JSON.parse(nodeOf(executable(), ...kit, "test/mine.ts"));
  expect(printed).toEqual({ "/alerts/orders": '{"service":"orders","flaps":1}' });
});

test("it runs", async () => {
  const client = await connect({ connectString: ensemble.connectString });
  running = spawn(process.execPath, [COMMAND, "dev", "pipelines/mine.ts"], {
    cwd: folder,
    env: { ...bareEnvironment(), ZOOKEEPER_CONNECT: ensemble.connectString },
    stdio: ["ignore", "pipe", "inherit"],
  });
  for (const path of ["/dubbo", "/dubbo/orders", "/dubbo/orders/providers", "/dubbo/orders/providers/one"])
    await client.create(path);
  while (!(await client.exists("/alerts/orders"))) await new Promise((done) => setTimeout(done, 100));
  expect(JSON.parse((await client.getData("/alerts/orders")).data.toString())).toMatchObject({
    service: "orders",
  });
  const ended = new Promise((done) => running!.once("exit", done));
  running.kill("SIGINT");
  expect(await ended).toBe(0);
  await client.close();
});

test("the commands of the relay's image work in the project", async () => {
  const file = join(folder, "node_modules/beamkeeper/infra/container/Dockerfile");
  const instructions = instructionsOf(readFileSync(file, "utf8"));
  // Any free port, since this is no container.
  const [, ...entry] = commandOf(instructions, "ENTRYPOINT").map((part) => (part === "8080" ? "0" : part));
  const environment = { ...bareEnvironment(), ZOOKEEPER_CONNECT: ensemble.connectString };
  const relay = spawn(process.execPath, [...entry, "pipelines/mine.ts"], {
    cwd: folder,
    env: { ...environment, BEAMKEEPER_OUTPUT: join(folder, "output") },
    stdio: ["ignore", "pipe", "inherit"],
  });
  running = relay;
  const ended = new Promise((done) => relay.once("exit", done));
  let output = "";
  while (!/"url":"http/.test(output) && relay.exitCode === null)
    output += await new Promise((done) => relay.stdout.once("data", (chunk) => done(String(chunk))));
  const [, port] = /"url":"http:\/\/127\.0\.0\.1:(\d+)"/.exec(output)!;
  relay.stdout.resume();
  const [, ...check] = commandOf(instructions, "HEALTHCHECK").map((part) => part.replace("8080", port!));
  const isHealthy = (): boolean => spawnSync(process.execPath, check, { cwd: folder }).status === 0;
  expect(isHealthy()).toBe(true);
  relay.kill("SIGTERM");
  expect(await ended).toBe(0);
  expect(isHealthy()).toBe(false);
});

test("`beamkeeper init` makes the project deployable, and overwrites nothing", () => {
  expect(node(COMMAND, "init")).toMatch(/^Wrote serverless.yml, functions\/relay.ts, functions\/bundle.ts/);
  expect(() => node(COMMAND, "init")).toThrow(/already there; nothing was written/);
  node("node_modules/serverless/bin/serverless.js", "package", "--stage", "local");
  const template = JSON.parse(
    readFileSync(join(folder, ".serverless/cloudformation-template-update-stack.json"), "utf8"),
  );
  expect(template.Resources.BundleRole).toBeDefined();
  for (const name of ["relay", "bundle", "batch", "events", "driver"]) {
    const entries = zipEntries(join(folder, `.serverless/${name}.zip`));
    expect(entries.get(`functions/${name}.js`)).toBeLessThan(1_000_000);
  }
});
