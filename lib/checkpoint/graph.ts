/**
 * What is stored of a compiled graph, and how two of them differ. Pure.
 *
 * An epoch's own znode holds the graph that the epoch was made for. It is what the fingerprint in `generation` is of, so
 * that code with another one can be told what differs, and `update` can decide whether stored elements and state fit.
 */
import { decodeJson, encodeJson } from "./encoding";
import type { Upstream } from "./records";

/** A compiled graph as plain data. */
export interface StoredGraph {
  /** In the order in which data flows. */
  readonly stages: readonly StoredStage[];
  /** Names of the finalisers that committed tokens may wait for. */
  readonly finalizers: readonly string[];
  /** Of an epoch that an update has built: the stages that go on, by their present names, with those of before. */
  readonly continued?: Readonly<Record<string, string>> | undefined;
}

export interface StoredStage {
  readonly id: string;
  /** What its waiting elements and state depend on: texts by what they are, such as `windowing`. */
  readonly form: Readonly<Record<string, string>>;
  /** The stage that each side input comes from. */
  readonly sides: Readonly<Record<string, string>>;
  /** What keeps nothing between bundles, by name. */
  readonly transforms: Readonly<Record<string, string>>;
}

/** A graph with what its stages read. */
export interface PlannedGraph {
  readonly graph: StoredGraph;
  readonly upstream: Readonly<Record<string, readonly Upstream[]>>;
}

export interface UpdateChoices {
  /** New names of stages, by their old ones. */
  readonly renames: Readonly<Record<string, string>>;
  /** Stages that are gone, whose waiting elements and state may be lost. */
  readonly discard: readonly string[];
}

export const NO_CHOICES: UpdateChoices = { renames: {}, discard: [] };

export interface StageDifference {
  /** Its name: the new one, where it has one. */
  readonly stage: string;
  readonly change: "added" | "removed" | "renamed" | "changed" | "incompatible";
  /** What differs, one sentence each. */
  readonly what: readonly string[];
}

export interface GraphDifference {
  readonly stages: readonly StageDifference[];
  /** Why the changed code can't go on with what is stored; empty where it can. */
  readonly problems: readonly string[];
  /** The stages that go on, by their new names, with the old ones. */
  readonly continued: ReadonlyMap<string, string>;
}

export function encodeGraph(graph: StoredGraph): Buffer {
  return encodeJson("graph", graph);
}

/** Undefined where the epoch was made by a version that stored no graph. Throws EncodingError. */
export function decodeGraph(frame: Uint8Array, path: string): StoredGraph | undefined {
  return frame.length === 0 ? undefined : (decodeJson("graph", frame, path) as StoredGraph);
}

/**
 * How the code's graph differs from the stored one, stage by stage. A stage goes on with what it has where its form is
 * the same; where it reads nothing that it did not read before, directly or through others, nothing that comes is
 * older than what its windows have been closed by.
 */
export function compareGraphs(
  stored: PlannedGraph,
  now: PlannedGraph,
  choices: UpdateChoices,
): GraphDifference {
  const before = new Map(stored.graph.stages.map((stage) => [stage.id, stage]));
  const after = new Map(now.graph.stages.map((stage) => [stage.id, stage]));
  const problems = problemsOfChoices(before, after, choices);
  const oldNames = new Map(Object.entries(choices.renames).map(([from, to]) => [to, from]));
  const continued = new Map<string, string>();
  for (const id of after.keys()) {
    const from = oldNames.get(id) ?? id;
    const isRenamedAway = from === id && (choices.renames[id] ?? id) !== id;
    if (before.has(from) && !isRenamedAway) continued.set(id, from);
  }
  const isGone = (id: string): boolean => ![...continued.values()].includes(id);
  const stages = [
    ...[...after.values()].flatMap((stage) => {
      const from = before.get(continued.get(stage.id) ?? "");
      if (from === undefined)
        return [{ stage: stage.id, change: "added" as const, what: ["it begins empty"] }];
      return differenceOf(from, stage, { stored, now, continued });
    }),
    ...[...before.values()].filter(({ id }) => isGone(id)).map((stage) => removed(stage, after, before)),
  ];
  problems.push(...mistakable(stages, continued, { before, after }, choices));
  for (const { stage, change, what } of stages)
    if (change === "incompatible") problems.push(...what.map((text) => `stage "${stage}": ${text}`));
  return { stages, problems, continued };
}

type Stages = ReadonlyMap<string, StoredStage>;

function problemsOfChoices(before: Stages, after: Stages, { renames, discard }: UpdateChoices): string[] {
  const problems: string[] = [];
  for (const [from, to] of Object.entries(renames)) {
    if (!before.has(from))
      problems.push(`there is no stored stage "${from}" to be renamed; ${namesOf(before)}`);
    if (!after.has(to))
      problems.push(`the code has no stage "${to}" to be the renamed "${from}"; ${namesOf(after)}`);
  }
  const targets = Object.values(renames);
  for (const to of new Set(targets.filter((each, index) => targets.indexOf(each) !== index)))
    problems.push(`two stages are to be "${to}"`);
  for (const id of discard)
    if (!before.has(id) || (after.has(id) && renames[id] === undefined) || renames[id] !== undefined)
      problems.push(`"${id}" is to be discarded, and is no stage that has gone`);
  return problems;
}

function namesOf(stages: Stages): string {
  return `there are ${[...stages.keys()].join(", ")}`;
}

/**
 * Transforms without names of their own are numbered as they are applied, so one more of a kind may shift the others'
 * names: then somebody has to say which one goes on.
 */
function mistakable(
  differences: readonly StageDifference[],
  continued: GraphDifference["continued"],
  { before, after }: { readonly before: Stages; readonly after: Stages },
  { renames }: UpdateChoices,
): string[] {
  return differences.flatMap(({ stage, change }) => {
    if (change !== "added" && change !== "removed") return [];
    const { form } = (change === "added" ? after : before).get(stage)!;
    const alike = [...continued].find(
      ([id, from]) =>
        renames[from] === undefined &&
        unnumbered(id) === unnumbered(stage) &&
        changesOf(form, after.get(id)!.form, () => "").length === 0,
    );
    if (alike === undefined) return [];
    const [id, from] = alike;
    return [
      `"${stage}" is ${change}, and "${id}" may not be what it was, since their names differ by a number only: ` +
        `say what "${from}" is now, as in --rename ${from}=${id}, or give the transforms names`,
    ];
  });
}

function unnumbered(id: string): string {
  return id.replaceAll(/-\d+(?=\/|$)/g, "");
}

interface Comparison {
  readonly stored: PlannedGraph;
  readonly now: PlannedGraph;
  readonly continued: ReadonlyMap<string, string>;
}

function differenceOf(from: StoredStage, to: StoredStage, comparison: Comparison): StageDifference[] {
  const { stored, now, continued } = comparison;
  const problems = [
    ...changesOf(from.form, to.form, (name, was, is) => `its ${name} was ${was}, and is ${is}`),
    ...changesOf(
      from.sides,
      Object.fromEntries(Object.entries(to.sides).map(([side, id]) => [side, continued.get(id) ?? id])),
      (side, was, is) => `the stage behind its side input "${side}" was ${was}, and is ${is}`,
    ),
    ...newAncestors(from.id, to.id, stored, now, continued).map(
      (id) =>
        `it reads ${id}, which it did not read before; what comes from there may be older than what its windows were closed by`,
    ),
  ];
  if (problems.length > 0) return [{ stage: to.id, change: "incompatible", what: problems }];
  const what = changesOf(from.transforms, to.transforms, (name, was, is) => {
    if (was === ABSENT) return `the transform "${name}" is new`;
    return is === ABSENT
      ? `the transform "${name}" is gone`
      : `the transform "${name}" was ${was}, and is ${is}`;
  });
  if (from.id !== to.id) return [{ stage: to.id, change: "renamed", what: [`it was "${from.id}"`, ...what] }];
  return what.length > 0 ? [{ stage: to.id, change: "changed", what }] : [];
}

function removed(stage: StoredStage, after: Stages, before: Stages): StageDifference {
  const same = [...after.values()].find(
    ({ id, form }) => !before.has(id) && changesOf(stage.form, form, () => "").length === 0,
  );
  const hint = same
    ? [`"${same.id}" is new and keeps the same: --rename ${stage.id}=${same.id} hands it over`]
    : [];
  return {
    stage: stage.id,
    change: "removed",
    what: ["it must have nothing left, or be discarded", ...hint],
  };
}

const ABSENT = "none";

function changesOf(
  was: Readonly<Record<string, string>>,
  is: Readonly<Record<string, string>>,
  text: (name: string, was: string, is: string) => string,
): string[] {
  const names = new Set([...Object.keys(was), ...Object.keys(is)]);
  return [...names]
    .filter((name) => was[name] !== is[name])
    .map((name) => text(name, was[name] ?? ABSENT, is[name] ?? ABSENT));
}

/** What a stage now reads, through new stages or directly, and did not read before, directly or not. */
function newAncestors(
  from: string,
  to: string,
  stored: PlannedGraph,
  now: PlannedGraph,
  continued: ReadonlyMap<string, string>,
): string[] {
  const known = new Set(ancestors(stored.upstream, from, () => true).map(nameOf));
  const isNew = (id: string): boolean => !continued.has(id);
  return ancestors(now.upstream, to, isNew)
    .filter(({ type, id }) => type === "source" || !isNew(id))
    .filter(({ type, id }) => !known.has(nameOf({ type, id: continued.get(id) ?? id })))
    .map(nameOf);
}

function nameOf({ type, id }: Upstream): string {
  return `the ${type} "${id}"`;
}

/** Stages and sources above a stage, up to and with those through which the way does not lead on. */
function ancestors(
  upstream: PlannedGraph["upstream"],
  stage: string,
  leadsOn: (stage: string) => boolean,
): Upstream[] {
  const found = new Map<string, Upstream>();
  const visit = (id: string): void => {
    for (const from of upstream[id] ?? []) {
      if (found.has(nameOf(from))) continue;
      found.set(nameOf(from), from);
      if (from.type === "stage" && leadsOn(from.id)) visit(from.id);
    }
  };
  visit(stage);
  return [...found.values()];
}
