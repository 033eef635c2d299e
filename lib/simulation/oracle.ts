import type { BlobStore } from "../checkpoint/blobs";
import { letterElement, listDeadLetters } from "../checkpoint/dead-letter";
import type { PipelineLayout } from "../checkpoint/layout";
import { decodeZnodeChange, type ZnodeChange } from "../checkpoint/znode-change";
import type { ZooKeeperClient } from "../zookeeper";
import { orderOf, RESULTS, type SeenChange, type Summary } from "./summary-pipeline";
import { LATE_POISON, POISON, type World } from "./world";

/** The writer's log: every value of every znode, in order; null is a deletion. */
export type WriterLog = ReadonlyMap<string, readonly (string | null)[]>;

/** How many values of each path must have been delivered, where the pipeline was stopped while the writer went on. */
export type Acknowledged = ReadonlyMap<string, number>;

export interface Evidence {
  readonly log: WriterLog;
  /** Undefined: everything was delivered. */
  readonly acknowledged: Acknowledged | undefined;
  /** Whether the source was active before the first write. */
  readonly fromTheStart: boolean;
}

/** What came out: the result znodes, the published files, and what user code failed on alone. */
export interface Outcome {
  readonly summaries: readonly Summary[];
  /** Undefined where nothing is written as text. */
  readonly files: Iterable<string> | undefined;
  readonly putAside: readonly ZnodeChange[];
  /** Whether a relay's watch was ever interrupted: then whole lives may have gone by. */
  readonly hadGap: boolean;
  /** Files that were committed may wait for their names for ever then. */
  readonly isCancelled: boolean;
}

/** Judges a simulated run. */
export async function judge(world: World, client: ZooKeeperClient, evidence: Evidence): Promise<string[]> {
  const results = await readSummaries(client);
  // Event time is the ensemble's: no element can be from later than any leader's clock has shown.
  const early = results.filter(({ window }) => window > world.ensemble.latestMs);
  return [
    ...world.files.problems,
    ...judgeFinalized(
      world,
      results.map(({ summary }) => summary),
    ),
    ...early.map(({ window }) => `a window begins at ${window}, in the future`),
    ...judgeTimes(world, results),
    ...compare(evidence, {
      summaries: results.map(({ summary }) => summary),
      files: world.hasFiles ? world.files.published.values() : undefined,
      putAside: await readPutAside(client, world.blobs, world.layout),
      hadGap: world.hadGap,
      isCancelled: world.isCancelled,
    }),
  ];
}

/**
 * What the writer wrote against what came out, by plain counting; returns what is wrong, in sentences. It knows the
 * log, the result znodes, the published files and the dead letters, and nothing of how they came about.
 */
export function compare({ log, acknowledged, fromTheStart }: Evidence, outcome: Outcome): string[] {
  const { files, isCancelled } = outcome;
  const problems = files === undefined ? [] : judgeFiles(outcome.summaries, files, isCancelled);
  const summaries = [...outcome.summaries];
  for (const { path, kind, text, mzxid, missed, missedAtLeast: atLeast } of outcome.putAside) {
    if (!text?.startsWith(POISON)) problems.push(`${path}: ${text} is in dead-letter, and it is no poison`);
    summaries.push({
      path,
      seen: [{ order: orderOf(mzxid), kind, value: text, arrival: undefined }],
      missed,
      atLeast,
    });
  }
  const byPath = new Map<string, Summary[]>();
  for (const summary of summaries) byPath.set(summary.path, [...(byPath.get(summary.path) ?? []), summary]);
  const circumstances = { fromTheStart, hadGap: outcome.hadGap, isCancelled: outcome.isCancelled };
  for (const [path, values] of log) {
    const parts = byPath.get(path) ?? [];
    // Where it was stopped on purpose, some prefix has to be right, with all that had to be in it.
    const found = judgePath(path, values, parts, circumstances);
    if (found.length === 0) continue;
    const least = acknowledged === undefined ? values.length : (acknowledged.get(path) ?? 0);
    const ends = Array.from({ length: values.length - least }, (_, index) => least + index);
    if (ends.some((end) => judgePath(path, values.slice(0, end), parts, circumstances).length === 0))
      continue;
    problems.push(...found);
  }
  return problems;
}

/**
 * No value is from later than any leader's clock had shown when it was written: a watermark is published when all that
 * came before it is appended, so it puts nothing off that is older.
 */
function judgeTimes({ ensemble }: World, results: readonly WindowedSummary[]): string[] {
  const shownMs = new Map<string, number>();
  let latestMs = Number.NEGATIVE_INFINITY;
  for (const { zxid, timeMs } of ensemble.onDisk) {
    latestMs = Math.max(latestMs, timeMs);
    shownMs.set(orderOf(zxid), latestMs);
  }
  return results.flatMap(({ window, summary }) =>
    summary.seen
      .filter(({ kind, order }) => kind !== "deleted" && window > shownMs.get(order)!)
      .map(({ value }) => `${value} is in a window that begins at ${window}, after it was written`),
  );
}

/** Everything that was committed was finalised, at least once, and nothing else was. */
function judgeFinalized({ finalized, isCancelled, isAsync }: World, summaries: readonly Summary[]): string[] {
  // After a cancellation, windows stay open and finalisers may wait for ever.
  if (!isAsync || isCancelled) return [];
  const name = (path: string, { order }: { readonly order: string }): string => `${path} at ${order}`;
  const told = new Set(finalized.map((element) => name(element.path, element)));
  const committed = new Set(summaries.flatMap(({ path, seen }) => seen.map((each) => name(path, each))));
  return [
    ...[...committed]
      .filter((each) => !told.has(each))
      .map((each) => `${each} was committed and never finalised`),
    ...[...told]
      .filter((each) => !committed.has(each))
      .map((each) => `${each} was finalised and not committed`),
  ];
}

/** The elements that user code failed on alone, and that are therefore in dead-letter. */
export async function readPutAside(
  client: ZooKeeperClient,
  blobs: BlobStore,
  layout: PipelineLayout,
): Promise<ZnodeChange[]> {
  const letters = await listDeadLetters(client, layout);
  const elements = letters
    .filter(({ letter }) => letter.kind === "element")
    .map(({ letter, path }) => letterElement(blobs, letter, path));
  return (await Promise.all(elements)).map((element) => decodeZnodeChange(element).change);
}

export interface WindowedSummary {
  /** The start, in ms. */
  readonly window: number;
  readonly summary: Summary;
}

/** The result znodes, each with its window. */
export async function readSummaries(client: ZooKeeperClient): Promise<WindowedSummary[]> {
  const summaries: WindowedSummary[] = [];
  for (const window of (await client.getChildren(RESULTS)).children) {
    const names = (await client.getChildren(`${RESULTS}/${window}`)).children;
    const read = (name: string) => client.getData(`${RESULTS}/${window}/${name}`);
    for (const { data } of await Promise.all(names.map(read)))
      if (data.length > 0)
        summaries.push({ window: Number(window), summary: JSON.parse(data.toString("utf8")) as Summary });
  }
  return summaries;
}

/**
 * The text files hold the same results as the znodes, each once. What was replayed comes late to the grouping for the
 * files, which may drop it.
 */
function judgeFiles(summaries: readonly Summary[], files: Iterable<string>, isCancelled: boolean): string[] {
  const lines = [...files].flatMap((text) => text.split("\n").filter(Boolean));
  const inFiles = lines.map((line) => JSON.stringify(JSON.parse(line).summary)).sort();
  const named = new Set(inFiles);
  const mayLack = (summary: Summary): boolean =>
    isCancelled || summary.seen.some(({ value }) => value?.startsWith(LATE_POISON));
  const inZnodes = summaries
    .filter((summary) => !mayLack(summary) || named.has(JSON.stringify(summary)))
    .map((summary) => JSON.stringify(summary))
    .sort();
  if (JSON.stringify(inFiles) === JSON.stringify(inZnodes)) return [];
  return [`files and znodes differ: ${inFiles.length} and ${inZnodes.length} results`];
}

interface Circumstances {
  readonly fromTheStart: boolean;
  readonly hadGap: boolean;
  readonly isCancelled: boolean;
}

function judgePath(
  path: string,
  written: readonly (string | null)[],
  parts: readonly Summary[],
  { fromTheStart, hadGap, isCancelled }: Circumstances,
): string[] {
  const problems: string[] = [];
  const seen = parts.flatMap((part) => part.seen).sort(byOrder);
  const values = seen.map(({ value }) => value).filter((value) => value !== null);
  const missed = parts.reduce((sum, part) => sum + part.missed, 0);
  const writtenValues = written.filter((value) => value !== null);
  const final = written.at(-1) ?? null;
  const problem = (text: string): void => {
    const got = seen.map(({ kind, value }) => `${kind} ${value}`).join(",");
    problems.push(`${path}: ${text} (wrote ${written.join(",")}; got ${got}; missed ${missed})`);
  };
  if (new Set(values).size !== values.length) problem("a value was delivered twice");
  const known = new Set(written);
  for (const value of values) if (!known.has(value)) problem(`${value} was never written`);
  for (const { value, arrival } of seen)
    if (value?.startsWith(POISON) && arrival !== undefined) problem(`${value} was not put aside`);
  // After a cancellation windows stay open, and which have fired by then has nothing to do with the order of writes.
  if (!isCancelled && (seen.length === 0 ? final !== null : seen.at(-1)!.value !== final))
    problem(`the final value is ${final}`);
  for (const text of judgeOrder(seen, parts)) problem(text);
  // One life is counted exactly whatever happened; of several, some may have gone by in a gap.
  const livesUnseen = hadGap && written.includes(null);
  const atLeast =
    isCancelled ||
    livesUnseen ||
    !fromTheStart ||
    parts.some((part) => part.atLeast) ||
    seen.some(({ kind }) => kind === "existing") ||
    seen.length === 0;
  const counted = values.length + missed;
  if (atLeast ? counted > writtenValues.length : counted !== writtenValues.length)
    problem(`${writtenValues.length} values, ${counted} counted`);
  return problems;
}

/**
 * The elements of one znode reach user code in the order of their zxids. Of an element that was tried several
 * times, the arrival that travelled on is that of the bundle that was committed.
 */
function judgeOrder(seen: readonly SeenChange[], parts: readonly Summary[]): string[] {
  const problems: string[] = [];
  let last: SeenChange | undefined;
  for (const each of seen) {
    if (each.arrival === undefined) continue;
    if (last && each.arrival <= last.arrival!)
      problems.push(`${each.value} reached user code before ${last.value}`);
    last = each;
  }
  for (const part of parts)
    if (!part.seen.every((each, index) => index === 0 || part.seen[index - 1]!.order <= each.order))
      problems.push("the elements of a window came in another order than that of their zxids");
  return problems;
}

function byOrder(a: SeenChange, b: SeenChange): number {
  return a.order < b.order ? -1 : a.order > b.order ? 1 : 0;
}
