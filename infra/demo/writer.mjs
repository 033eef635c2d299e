/**
 * Writes znodes as a stranger would: with another client, and in the open. Logs each write that the server has
 * acknowledged as one line of JSON: {op, path, value, sentMs, ackMs, mtimeMs}.
 *
 *   node infra/demo/writer.mjs --connect HOSTS --root /app --log FILE [--znodes 300] [--writes 4000] [--seconds 8] [--seed 1] [--deletes 0.1]
 */
import { createWriteStream } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { parseArgs } from "node:util";
import zookeeper from "node-zookeeper-client";

const { values } = parseArgs({
  options: {
    connect: { type: "string" },
    root: { type: "string", default: "/app" },
    log: { type: "string" },
    znodes: { type: "string", default: "300" },
    writes: { type: "string", default: "4000" },
    seconds: { type: "string", default: "8" },
    seed: { type: "string", default: "1" },
    deletes: { type: "string", default: "0.1" },
  },
});
const root = values.root;
const znodes = Number(values.znodes);
const writes = Number(values.writes);
const seconds = Number(values.seconds);
const deletes = Number(values.deletes);
const random = mulberry32(Number(values.seed));
const log = createWriteStream(values.log, { flags: "a" });
const client = zookeeper.createClient(values.connect, { sessionTimeout: 10_000, retries: 3 });

/** A small seeded generator (mulberry32): the same seed writes the same znodes in the same order. */
function mulberry32(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

const promised = (call) =>
  new Promise((resolve, reject) => call((error, result) => (error ? reject(error) : resolve(result))));
const create = (path, data) => promised((done) => client.create(path, data, done));
const setData = (path, data) => promised((done) => client.setData(path, data, -1, done));
const remove = (path) => promised((done) => client.remove(path, -1, done));

/** What each path holds now: a value, or undefined where there is no znode. */
const alive = new Map();
let count = 0;

function choose() {
  const path = `${root}/group-${Math.floor(random() * 10)}/znode-${Math.floor(random() * (znodes / 10))}`;
  if (!alive.has(path)) return { op: "create", path };
  return { op: random() < deletes ? "delete" : "change", path };
}

async function writeOne() {
  const { op, path } = choose();
  const value = op === "delete" ? null : `value-${++count}`;
  const data = Buffer.from(value ?? "");
  const sentMs = Date.now();
  const result = await (op === "create"
    ? create(path, data)
    : op === "change"
      ? setData(path, data)
      : remove(path));
  const mtimeMs = op === "change" ? Number(result.mtime.readBigInt64BE()) : null;
  if (op === "delete") alive.delete(path);
  else alive.set(path, value);
  log.write(`${JSON.stringify({ op, path, value, sentMs, ackMs: Date.now(), mtimeMs })}\n`);
}

async function makeParents() {
  for (let group = 0; group < 10; group++) {
    const path = `${root}/group-${group}`;
    await promised((done) => client.mkdirp(path, done));
    log.write(
      `${JSON.stringify({ op: "parent", path, value: null, sentMs: Date.now(), ackMs: Date.now(), mtimeMs: null })}\n`,
    );
  }
}

/** Bursts, as real writers come: values are overwritten faster than anyone can read them. */
async function main() {
  await new Promise((resolve) => {
    client.once("connected", resolve);
    client.connect();
  });
  await makeParents();
  const bursts = Math.max(1, Math.round(seconds * 10));
  const startMs = Date.now();
  for (let burst = 0; burst < bursts; burst++) {
    const until = Math.round((writes * (burst + 1)) / bursts);
    for (let done = Math.round((writes * burst) / bursts); done < until; done++) await writeOne();
    await delay(Math.max(0, startMs + ((burst + 1) * seconds * 1000) / bursts - Date.now()));
  }
}

try {
  await main();
} catch (error) {
  process.stderr.write(`writer: ${error.message}\n`);
  process.exitCode = 1;
} finally {
  client.close();
  log.end();
}
