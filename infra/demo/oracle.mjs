/**
 * Compares what a writer logged with what the pipeline `znode-summary` wrote, and knows nothing else: it reads
 * the log, the result znodes through another client, and the text files. Prints a report as JSON; exits with 1
 * if a value was lost or counted twice.
 *
 *   node infra/demo/oracle.mjs --connect HOSTS --log FILE --results /summaries --files FOLDER
 */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import zookeeper from "node-zookeeper-client";

const { values: options } = parseArgs({
  options: {
    connect: { type: "string" },
    log: { type: "string" },
    results: { type: "string", default: "/summaries" },
    files: { type: "string" },
  },
});

const WINDOW_MS = 1000;
const READS_IN_FLIGHT = 64;

const promised = (call) =>
  new Promise((resolve, reject) => call((error, ...result) => (error ? reject(error) : resolve(result))));

function readLog() {
  const lines = readFileSync(options.log, "utf8").split("\n").filter(Boolean);
  return lines.map((line) => JSON.parse(line));
}

async function readResults(client) {
  const exists = await promised((done) => client.exists(options.results, done));
  if (!exists[0]) return [];
  const [windows] = await promised((done) => client.getChildren(options.results, done));
  const paths = [];
  for (const window of windows) {
    const [names] = await promised((done) => client.getChildren(`${options.results}/${window}`, done));
    paths.push(...names.map((name) => `${options.results}/${window}/${name}`));
  }
  const results = [];
  for (let from = 0; from < paths.length; from += READS_IN_FLIGHT) {
    const read = async (path) => {
      const [data, stat] = await promised((done) => client.getData(path, done));
      return {
        ...JSON.parse(data.toString()),
        committedMs: Number(stat.ctime.readBigInt64BE()),
        version: stat.version,
      };
    };
    results.push(...(await Promise.all(paths.slice(from, from + READS_IN_FLIGHT).map(read))));
  }
  return results.sort((a, b) => (a.window < b.window ? -1 : a.window > b.window ? 1 : 0));
}

function readFiles() {
  if (!existsSync(options.files)) return { names: [], lines: [] };
  const names = readdirSync(options.files).filter((name) => name.endsWith(".jsonl"));
  const lines = names.flatMap((name) =>
    readFileSync(join(options.files, name), "utf8").split("\n").filter(Boolean),
  );
  return { names, lines };
}

/** Everything that is wrong, in sentences. */
function findProblems(log, results, lines) {
  const problems = [];
  const writesOf = Map.groupBy ? Map.groupBy(log, ({ path }) => path) : group(log, ({ path }) => path);
  const resultsOf = group(results, ({ path }) => path);
  for (const [path, writes] of writesOf) checkPath(path, writes, resultsOf.get(path) ?? [], problems);
  for (const path of resultsOf.keys())
    if (!writesOf.has(path) && !isAbove(path, writesOf))
      problems.push(`${path}: a result for a znode that nobody wrote`);
  checkFiles(results, lines, problems);
  return problems;
}

/** Parents are made without being written. */
function isAbove(path, writesOf) {
  return [...writesOf.keys()].some((written) => written.startsWith(`${path}/`));
}

function group(items, keyOf) {
  const groups = new Map();
  for (const item of items) {
    const key = keyOf(item);
    if (groups.has(key)) groups.get(key).push(item);
    else groups.set(key, [item]);
  }
  return groups;
}

function checkPath(path, writes, results, problems) {
  const last = writes.at(-1);
  const delivered = results.flatMap(({ values }) => values);
  const written = new Set(writes.map(({ value }) => value));
  const valued = delivered.filter((value) => value !== null && value !== "");
  if (new Set(valued).size !== valued.length) problems.push(`${path}: a value was delivered twice`);
  for (const value of valued)
    if (!written.has(value)) problems.push(`${path}: "${value}" was never written here`);
  if (results.length === 0) return problems.push(`${path}: nothing of its ${writes.length} writes arrived`);
  if (last.op === "parent") return undefined;
  const final = results.at(-1).last;
  if (final !== last.value)
    problems.push(`${path}: the final value is ${last.value}, the last result says ${final}`);
  const missed = results.reduce((sum, result) => sum + result.missed, 0);
  const values = writes.filter(({ op }) => op !== "delete").length;
  const exact = results.every(({ atLeast }) => !atLeast);
  const counted = valued.length + missed;
  if (exact ? counted !== values : counted > values) {
    problems.push(
      `${path}: ${values} values were written, ${valued.length} delivered and ${missed} counted as missed`,
    );
  }
  return undefined;
}

/** The text files hold the same results as the znodes, each once. */
function checkFiles(results, lines, problems) {
  const summary = ({ path, window, values, last, missed, atLeast }) =>
    JSON.stringify({ path, window, values, last, missed, atLeast });
  const fromFiles = new Map();
  for (const line of lines) {
    const text = summary(JSON.parse(line));
    fromFiles.set(text, (fromFiles.get(text) ?? 0) + 1);
  }
  for (const result of results) {
    const count = fromFiles.get(summary(result)) ?? 0;
    if (count !== 1) problems.push(`${result.path} at ${result.window}: in the text files ${count} times`);
    fromFiles.delete(summary(result));
  }
  for (const text of fromFiles.keys()) problems.push(`only in the text files: ${text}`);
}

/** From the later of the last write of a znode in a window and the window's end to the committed result, in ms. */
function delays(log, results) {
  const acknowledged = new Map(
    log.filter(({ value }) => value !== null).map(({ value, mtimeMs, ackMs }) => [value, mtimeMs ?? ackMs]),
  );
  return results
    .map(
      ({ window, last, committedMs }) =>
        committedMs - Math.max(Date.parse(window) + WINDOW_MS, acknowledged.get(last) ?? 0),
    )
    .sort((a, b) => a - b);
}

function quantile(sorted, fraction) {
  return sorted.length === 0
    ? null
    : sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * fraction))];
}

const client = zookeeper.createClient(options.connect);
try {
  await new Promise((resolve) => {
    client.once("connected", resolve);
    client.connect();
  });
  const log = readLog();
  const results = await readResults(client);
  const { names, lines } = readFiles();
  const problems = findProblems(log, results, lines);
  const sorted = delays(log, results);
  const report = {
    written: log.filter(({ op }) => op !== "parent").length,
    windows: new Set(results.map(({ window }) => window)).size,
    results: results.length,
    elements: results.reduce((sum, { values }) => sum + values.length, 0),
    finalValues: group(log, ({ path }) => path).size,
    missed: results.reduce((sum, { missed }) => sum + missed, 0),
    files: names.length,
    p50Ms: quantile(sorted, 0.5),
    p99Ms: quantile(sorted, 0.99),
    problems,
  };
  process.stdout.write(`${JSON.stringify(report)}\n`);
  process.exitCode = problems.length === 0 ? 0 : 1;
} catch (error) {
  process.stderr.write(`oracle: ${error.message}\n`);
  process.exitCode = 2;
} finally {
  client.close();
}
