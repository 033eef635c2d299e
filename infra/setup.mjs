/**
 * `npm start` and `npm test`: installs what is missing, and then runs. Plain Node without dependencies, because
 * the npm packages may be among what is missing.
 *
 *   node infra/setup.mjs start [ARGUMENTS...]   set up, then run the command line tool's `dev`
 *   node infra/setup.mjs test                   set up, then run every check in order
 *   node infra/setup.mjs bench [NAME] [--record] set up, then run a benchmark, or list them
 *   node infra/setup.mjs beamkeeper ARGUMENTS...   set up the packages, then run the command line tool
 *   node infra/setup.mjs soak [NAME]            set up, then run seeds without end, or the mutants
 *   node infra/setup.mjs build                set up the packages, then compile what is published into dist/
 *   node infra/setup.mjs install                set up only
 */
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { ensureEmulator } from "./emulator/install.mjs";
import { ensureJava, ensureZooKeeper, run, SetupError } from "./zookeeper/install.mjs";

const PROJECT = dirname(dirname(fileURLToPath(import.meta.url)));
const STATE_DIRECTORY = join(PROJECT, ".beamkeeper");
const LOCK_FILE = join(PROJECT, "package-lock.json");
const STAMP = join(PROJECT, "node_modules", ".beamkeeper-stamp");
const OLDEST_NODE = [20, 19];

/** The stages of `npm test`, in order: name, and the arguments of node. The first failure ends the run. */
const STAGES = [
  ["types", bin("typescript", "bin/tsc"), "--noEmit", "-p", "."],
  ["lint", bin("@biomejs/biome", "bin/biome"), "check", "."],
  // Of the reporters only the one that prints nothing but what failed, and the counts.
  ["tests", bin("jest", "bin/jest.js"), "--reporters=summary"],
];

function bin(packageName, path) {
  return join("node_modules", packageName, path);
}

function say(line) {
  process.stdout.write(`${line}\n`);
}

function checkNode() {
  const [major, minor] = process.versions.node.split(".").map(Number);
  const [oldestMajor, oldestMinor] = OLDEST_NODE;
  if (major > oldestMajor || (major === oldestMajor && minor >= oldestMinor)) return;
  throw new SetupError(
    `Node ${process.versions.node} is too old: install Node ${OLDEST_NODE.join(".")} or newer.`,
  );
}

/** npm's own record of what it installed is younger than the lock file: someone has run npm by hand. */
function isInstalledByHand() {
  const record = statSync(join(PROJECT, "node_modules", ".package-lock.json"), { throwIfNoEntry: false });
  return record !== undefined && record.mtimeMs >= statSync(LOCK_FILE).mtimeMs;
}

/**
 * `npm install --no-save` takes every version that the lock file has from it and leaves it alone, as `npm ci` does,
 * but it also bears a lock file that lacks optional packages of other platforms, which `npm ci` refuses. Such a lock
 * file comes out of registries that don't carry those packages.
 *
 * The stamp is written last, so packages whose installation was interrupted are installed again.
 */
function ensurePackages() {
  const hash = createHash("sha256").update(readFileSync(LOCK_FILE)).digest("hex");
  if (existsSync(STAMP) && readFileSync(STAMP, "utf8") === hash) return;
  if (!isInstalledByHand()) {
    say("Installing the npm packages of package-lock.json ...");
    run("npm", ["install", "--no-save", "--include=dev", "--no-audit", "--no-fund", "--loglevel=error"], {
      cwd: PROJECT,
    });
  }
  writeFileSync(STAMP, hash);
}

function setUp(needsZooKeeper) {
  checkNode();
  ensurePackages();
  if (!needsZooKeeper) return;
  ensureJava(say);
  ensureZooKeeper(STATE_DIRECTORY, say);
}

/** Tests and benchmarks of deployments need it, and nothing else does: without it they say so and are left out. */
function setUpEmulator() {
  try {
    ensureEmulator(STATE_DIRECTORY, say);
  } catch (error) {
    if (!(error instanceof SetupError)) throw error;
    say(`Warning: the AWS emulator cannot be installed, so deploying is not tested here.\n${error.message}`);
  }
}

/** Runs node with our own terminal: signals go on to it, and its exit code is ours. */
function hand(args) {
  const child = spawn(process.execPath, args, { cwd: PROJECT, stdio: "inherit" });
  // A terminal's ctrl-C reaches the child by itself; here it only must not end us before the child has tidied up.
  process.on("SIGINT", () => (process.stdin.isTTY ? undefined : child.kill("SIGINT")));
  process.on("SIGTERM", () => child.kill("SIGTERM"));
  return new Promise((done, fail) => {
    child.once("error", fail);
    child.once("exit", (code, signal) => done(signal === null ? code : 128 + (signal === "SIGINT" ? 2 : 15)));
  });
}

/** Runs one stage quietly; resolves with its exit code and what it printed. */
function runQuietly(args) {
  // The tests run on the oldest Node that is supported, which the AWS SDK advises against in each process.
  const env = { ...process.env, AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED: "true" };
  const child = spawn(process.execPath, args, { cwd: PROJECT, env, stdio: ["ignore", "pipe", "pipe"] });
  const output = [];
  child.stdout.on("data", (chunk) => output.push(chunk));
  child.stderr.on("data", (chunk) => output.push(chunk));
  const stop = () => child.kill("SIGTERM");
  process.once("SIGINT", stop).once("SIGTERM", stop);
  return new Promise((done, fail) => {
    child.once("error", fail);
    child.once("close", (code) => {
      process.removeListener("SIGINT", stop).removeListener("SIGTERM", stop);
      done({ code: code ?? 1, output: Buffer.concat(output).toString() });
    });
  });
}

/** The test runner's own count, so that a green run shows that tests ran. */
function testCounts(output) {
  const line = /^Tests: .*$/m.exec(output)?.[0] ?? "";
  const count = (word) => Number(new RegExp(`(\\d+) ${word}`).exec(line)?.[1] ?? 0);
  return { passed: count("passed"), failed: count("failed") };
}

/** The names of what failed, before everything that they printed. */
function failedTests(output) {
  const names = output.match(/^(FAIL| {2}●) .+$/gm) ?? [];
  return [...new Set(names)].map((name) => `${name}\n`).join("");
}

/** The last line is `N passed, N failed`; a stage that fails without failed tests counts as one. */
async function test() {
  for (const [name, ...args] of STAGES) {
    const startedAt = performance.now();
    const { code, output } = await runQuietly(args);
    const seconds = ((performance.now() - startedAt) / 1000).toFixed(1);
    say(`${code === 0 ? "ok  " : "FAIL"}  ${name.padEnd(10)} ${seconds.padStart(6)} s`);
    if (code !== 0) process.stdout.write(`${failedTests(output)}${output}`);
    const { passed, failed } = testCounts(output);
    if (code !== 0 || passed > 0)
      say(`${passed} passed, ${code === 0 ? failed : Math.max(failed, 1)} failed`);
    if (code !== 0) return code;
  }
  return 0;
}

async function main([verb, ...rest]) {
  const args = rest[0] === "--" ? rest.slice(1) : rest;
  switch (verb) {
    case "start":
      setUp(!process.env.ZOOKEEPER_CONNECT);
      return hand(["--import", "tsx", join("lib", "cli", "main.ts"), "dev", ...args]);
    case "beamkeeper":
      setUp(false);
      return hand(["--import", "tsx", join("lib", "cli", "main.ts"), ...args]);
    case "test":
      setUp(true);
      setUpEmulator();
      return test();
    case "bench":
      setUp(args.length > 0);
      if (args[0] === "lambda") setUpEmulator();
      return hand(["--import", "tsx", join("bench", "main.ts"), ...args]);
    case "soak":
      setUp(true);
      return hand(["--import", "tsx", join("test", "simulation", "soak.ts"), ...args]);
    case "build":
      setUp(false);
      rmSync(join(PROJECT, "dist"), { recursive: true, force: true });
      return hand([bin("typescript", "bin/tsc"), "-p", "tsconfig.build.json"]);
    case "install":
      setUp(true);
      return 0;
    default:
      throw new SetupError(
        "Usage: node infra/setup.mjs start|test|beamkeeper|bench|soak|build|install [ARGUMENTS...]",
      );
  }
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  if (!(error instanceof SetupError)) throw error;
  process.stderr.write(`${error.message}\n`);
  process.exitCode = 1;
}
