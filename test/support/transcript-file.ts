import { readFileSync } from "node:fs";
import { type Document, isNode, LineCounter, parseAllDocuments } from "yaml";
import type { Windowing } from "../../lib/beam/engine/windowing";
import { parseExpression, toTrigger, toWindowFn, windowTags } from "./transcript-expressions";
import { toMs } from "./transcript-times";
import { type Transform, toTransform } from "./transcript-transforms";

/**
 * A transcript: a windowing strategy, then steps and the panes that must come of them.
 *
 * YAML documents with `name`, `rule` (the part of the Beam model that it tests), `window_fn`, `trigger_fn`,
 * `timestamp_combiner`, `accumulation_mode`, `allowed_lateness`, `closing_behavior`, `on_time_behavior`, and a
 * `transcript` of `input`, `watermark`, `clock`, `expect` and `state`. Times are whole seconds, a window is written
 * with its first and last second. A pane matches on the attributes that it names; a pane that comes and is not
 * expected fails the transcript. The elements of one `input` arrive together: triggers are asked after the last.
 *
 * A setting may be a list: the transcript then runs with each. Where an expectation depends on the setting it is a
 * map by tags, as in `values: {discarding: [8], accumulating: [5, 8]}`, `only: lenient`. Tags are `discarding`,
 * `accumulating`, `strict` (no lateness, or the global window), `lenient`, `merges`, and the kinds of windows; `a+b`
 * means both, `else` the rest. `error` is what a transcript that must fail says.
 *
 * With `stateful`, `side_input` or `read` (see `Transform`) a transcript is one of a pipeline: the windowing is that of
 * the transform's input, and what is expected are elements, with their `value` (and what a side input gave them, `side`)
 * in place of `values`. `group` (a window function, or true for the same one) groups them by key further down, and panes
 * are expected again. There are steps more: `side_input` and `side_watermark`, and `end`: the sources end, and what is
 * read without end is drained. `dropped` is the number of elements that were too late.
 */
export interface Transcript {
  readonly name: string;
  readonly rule: string | undefined;
  readonly settings: Settings;
  readonly windowing: Windowing;
  readonly tags: ReadonlySet<string>;
  readonly steps: readonly Step[];
  readonly error: string | undefined;
  /** Undefined where the transcript is one of a grouping alone. */
  readonly transform: Transform | undefined;
  /** Of what the transform gives; undefined where nothing is grouped. */
  readonly group: Windowing | undefined;
  readonly dropped: number | undefined;
}

interface Settings {
  readonly window_fn: string;
  readonly trigger_fn: string;
  readonly accumulation_mode: string;
  readonly allowed_lateness: number;
  readonly timestamp_combiner: string;
  readonly closing_behavior: string;
  readonly on_time_behavior: string;
}

export interface Element {
  readonly key: string;
  readonly value: unknown;
  readonly timestampMs: number;
}

export type Step =
  | { readonly kind: "input" | "side_input"; readonly elements: readonly Element[] }
  | { readonly kind: "watermark" | "side_watermark" | "clock"; readonly timeMs: number }
  | { readonly kind: "end" }
  | { readonly kind: "expect"; readonly panes: readonly Record<string, unknown>[] }
  | { readonly kind: "state"; readonly lists: Readonly<Record<string, readonly unknown[]>> };

const DEFAULTS: Settings = {
  window_fn: "GlobalWindows",
  trigger_fn: "Default",
  accumulation_mode: "ACCUMULATING",
  allowed_lateness: 0,
  timestamp_combiner: "OUTPUT_AT_EOW",
  closing_behavior: "EMIT_IF_NONEMPTY",
  on_time_behavior: "FIRE_ALWAYS",
};

/** All transcripts of a file, one for each combination of settings; throws what is wrong with the first that is none. */
export function readTranscripts(file: string): Transcript[] {
  return readDocuments(file).flatMap(({ transcripts, error }) => {
    if (error !== undefined) throw error;
    return transcripts;
  });
}

/** What one document of a file holds. */
export interface TranscriptDocument {
  readonly name: string;
  /** `file:line`. */
  readonly where: string;
  readonly transcripts: readonly Transcript[];
  readonly error: Error | undefined;
}

export function readDocuments(file: string): TranscriptDocument[] {
  const lines = new LineCounter();
  const documents = parseAllDocuments(readFileSync(file, "utf8"), { lineCounter: lines });
  if (!Array.isArray(documents)) return [];
  return (documents as Document.Parsed[]).flatMap((document) => {
    const lineAt = (path: (string | number)[]): string => {
      const node = path.length === 0 ? undefined : document.getIn(path, true);
      const offset = (isNode(node) ? node : document.contents)?.range?.[0];
      return `${file}:${lines.linePos(offset ?? document.range[0]).line}`;
    };
    if (document.errors.length > 0) {
      const [error] = document.errors;
      const where = `${file}:${error!.linePos?.[0].line ?? 1}`;
      return [{ name: "a document", where, transcripts: [], error: located(error, where) }];
    }
    if (document.contents === null) return [];
    // A document may be one transcript or a list of them.
    const content: unknown = document.toJS();
    const specs = Array.isArray(content) ? content : [content];
    if (content === null || content === undefined) return [];
    return specs.map((spec: unknown, index): TranscriptDocument => {
      const path = Array.isArray(content) ? [index] : [];
      return readDocument(spec, lineAt(path), (inner) => lineAt([...path, ...inner]));
    });
  });
}

function readDocument(
  spec: unknown,
  where: string,
  lineAt: (path: (string | number)[]) => string,
): TranscriptDocument {
  const name = String((spec as { name?: unknown } | null)?.name ?? "a transcript without a name");
  try {
    if (typeof spec !== "object" || spec === null || Array.isArray(spec))
      throw new Error(`it is no transcript: ${JSON.stringify(spec)}`);
    const given = spec as Record<string, unknown>;
    const transcripts = combinations(given).map((settings) =>
      toTranscript({ ...given, name }, settings, lineAt),
    );
    return { name, where, transcripts, error: undefined };
  } catch (error) {
    return { name, where, transcripts: [], error: located(error, where) };
  }
}

/** The error with its place, unless one nearer to it is known already. */
function located(error: unknown, where: string): Error {
  if (error instanceof LocatedError) return error;
  return new LocatedError(`${where}: ${error instanceof Error ? error.message : String(error)}`);
}

class LocatedError extends Error {}

function combinations(spec: Record<string, unknown>): Settings[] {
  let all: Record<string, unknown>[] = [{}];
  for (const [name, fallback] of Object.entries(DEFAULTS)) {
    const given = spec[name] ?? fallback;
    all = all.flatMap((one) => [given].flat().map((value) => ({ ...one, [name]: value })));
  }
  return all as unknown as Settings[];
}

function toTranscript(
  spec: Record<string, unknown>,
  settings: Settings,
  lineAt: (path: (string | number)[]) => string,
): Transcript {
  const at: At = (path, read) => {
    try {
      return read();
    } catch (error) {
      throw located(error, lineAt(path));
    }
  };
  const windowing = toWindowing(settings, at);
  const { windowFn, accumulating } = windowing;
  const transform = toTransform(spec, at, (own, name) =>
    toWindowing({ ...DEFAULTS, ...own }, (path, read) => at([name, ...path], read)),
  );
  const kinds = transform === undefined ? PANE_STEPS : [...PANE_STEPS, ...PIPELINE_STEPS];
  const attributes = transform === undefined ? ATTRIBUTES : [...ATTRIBUTES, "value", "side"];
  const strict = windowing.allowedLatenessMs === 0 || windowFn.kind === "global";
  const tags = new Set([
    accumulating ? "accumulating" : "discarding",
    strict ? "strict" : "lenient",
    ...windowTags(windowFn),
  ]);
  const varied = Object.keys(DEFAULTS).filter((name) => Array.isArray(spec[name]));
  const suffix = varied.map((name) => String(settings[name as keyof Settings])).join(", ");
  return {
    name: suffix === "" ? String(spec.name) : `${spec.name} [${suffix}]`,
    rule: spec.rule === undefined ? undefined : String(spec.rule),
    settings,
    windowing,
    tags,
    steps: at(["transcript"], () => stepsOf(spec.transcript)).map((step, index) =>
      at(["transcript", index], () => toStep(step, tags, kinds, attributes)),
    ),
    error: spec.error === undefined ? undefined : String(spec.error),
    transform,
    group: at(["group"], () => groupOf(spec.group, windowing)),
    dropped: spec.dropped === undefined ? undefined : Number(resolve(spec.dropped, tags)),
  };
}

type At = <T>(path: (string | number)[], read: () => T) => T;

function toWindowing(settings: Settings, at: At): Windowing {
  const setting = <T>(name: keyof Settings, read: (given: Settings[typeof name]) => T): T =>
    at([name], () => read(settings[name]));
  return {
    windowFn: setting("window_fn", (given) => toWindowFn(parseExpression(given))),
    trigger: setting("trigger_fn", (given) => toTrigger(parseExpression(given))),
    accumulating: setting("accumulation_mode", isAccumulating),
    allowedLatenessMs: setting("allowed_lateness", latenessMs),
    outputTime: setting("timestamp_combiner", outputTime),
    emptyOnTimePanes:
      setting("on_time_behavior", (given) => oneOf(given, ["FIRE_ALWAYS", "FIRE_IF_NONEMPTY"])) ===
      "FIRE_ALWAYS",
    emptyFinalPanes:
      setting("closing_behavior", (given) => oneOf(given, ["EMIT_IF_NONEMPTY", "EMIT_ALWAYS"])) ===
      "EMIT_ALWAYS",
    alreadyMerged: false,
  };
}

function groupOf(given: unknown, windowing: Windowing): Windowing | undefined {
  if (given === undefined || given === false) return undefined;
  return given === true ? windowing : { ...windowing, windowFn: toWindowFn(parseExpression(given)) };
}

/** As Python writes an enum's value: with or without the enum's name. */
function enumName(given: unknown): string {
  const text = String(given).toUpperCase();
  return text.slice(text.lastIndexOf(".") + 1);
}

function oneOf<T extends string>(given: unknown, names: readonly T[]): T {
  const name = names.find((candidate) => candidate === enumName(given));
  if (name === undefined) throw new Error(`${String(given)} is not one of ${names.join(", ")}`);
  return name;
}

function isAccumulating(given: unknown): boolean {
  return oneOf(given, ["ACCUMULATING", "DISCARDING"]) === "ACCUMULATING";
}

function latenessMs(given: unknown): number {
  const lateness = toMs(given);
  if (lateness < 0) throw new Error(`an allowed lateness of ${String(given)} is not one`);
  return lateness;
}

function outputTime(given: unknown): Windowing["outputTime"] {
  const combiner = enumName(given).replace(/^OUTPUT_AT_/, "");
  if (combiner === "EOW" || combiner === "END_OF_WINDOW") return "END_OF_WINDOW";
  if (combiner === "EARLIEST" || combiner === "LATEST") return combiner;
  throw new Error(`the timestamp combiner ${String(given)} is not supported`);
}

function stepsOf(transcript: unknown): unknown[] {
  if (Array.isArray(transcript)) return transcript;
  throw new Error("a transcript is a list of steps, under `transcript`");
}

const PANE_STEPS = ["input", "watermark", "clock", "expect", "state"];
const PIPELINE_STEPS = ["side_input", "side_watermark", "end"];

function toStep(
  step: unknown,
  tags: ReadonlySet<string>,
  kinds: readonly string[],
  attributes: readonly string[],
): Step {
  if (typeof step !== "object" || step === null)
    throw new Error(`${show(step)} is no step, as in \`- input: [1]\``);
  const [[kind, given] = ["", undefined], ...more] = Object.entries(step) as [string, unknown][];
  if (more.length > 0) throw new Error(`a step must have one action, not ${Object.keys(step).join(", ")}`);
  const value = resolve(given, tags);
  if (!kinds.includes(kind))
    throw new Error(
      `the action ${kind} is unknown; there are ${kinds.slice(0, -1).join(", ")} and ${kinds.at(-1)}`,
    );
  switch (kind) {
    case "input":
    case "side_input":
      return { kind, elements: listOf(value, kind).map(toElement) };
    case "watermark":
    case "side_watermark":
    case "clock":
      return { kind, timeMs: toMs(value) };
    case "expect":
      return { kind, panes: listOf(value, "expect").flatMap((pane) => expected(pane, tags, attributes)) };
    case "end":
      return { kind };
    default:
      return { kind: "state", lists: stateLists(value) };
  }
}

function listOf(value: unknown, what: string): unknown[] {
  if (value === null || value === undefined) return [];
  if (Array.isArray(value)) return value;
  throw new Error(`${what} needs a list, not ${show(value)}`);
}

function stateLists(value: unknown): Record<string, unknown[]> {
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw new Error("state needs lists of windows, as in {present: [[0, 9]], absent: [[10, 19]]}");
  return Object.fromEntries(
    Object.entries(value).map(([name, windows]) => {
      if (!["present", "absent", "tombstone"].includes(name))
        throw new Error(`state has no list ${name}; it has present, absent and tombstone`);
      return [name, listOf(windows, name).map(asWindow)];
    }),
  );
}

/** A window as panes have it: its first and last second, or `global`. */
function asWindow(given: unknown): unknown {
  if (given === "global" || given === "GlobalWindow" || given === "GlobalWindow()") return "global";
  if (!Array.isArray(given) || given.length !== 2)
    throw new Error(`a window is written with its first and last second, not as ${show(given)}`);
  const [first, last] = given.map(toMs) as [number, number];
  return first === -Infinity || last === Infinity ? "global" : [first / 1000, last / 1000];
}

/** `only` leaves a pane out where its tags do not apply; `copies` is how often it comes. */
function expected(
  pane: unknown,
  tags: ReadonlySet<string>,
  known: readonly string[],
): Record<string, unknown>[] {
  if (typeof pane !== "object" || pane === null || Array.isArray(pane))
    throw new Error(`${show(pane)} is no pane, as in {window: [0, 9], values: [1]}`);
  const { only, copies, ...attributes } = pane as Record<string, unknown>;
  if (only !== undefined && ![only].flat().some((condition) => applies(String(condition), tags))) return [];
  const resolved = Object.fromEntries(
    Object.entries(attributes).map(([name, value]) => [name, resolve(value, tags)]),
  );
  for (const name of Object.keys(resolved))
    if (!known.includes(name)) throw new Error(`a pane has no attribute ${name}; it has ${known.join(", ")}`);
  if (resolved.window !== undefined) resolved.window = asWindow(resolved.window);
  if (resolved.values !== undefined) resolved.values = listOf(resolved.values, "values");
  return new Array(Number(resolve(copies, tags) ?? 1)).fill(resolved);
}

const ATTRIBUTES = [
  ...["key", "window", "values", "timestamp", "early", "on_time", "late", "first", "final"],
  ...["index", "nonspeculative_index"],
];

/** A map by tags becomes its first value that applies; anything else stays as it is. */
function resolve(value: unknown, tags: ReadonlySet<string>): unknown {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return value;
  const keys = Object.keys(value);
  if (!keys.every((key) => key === "else" || key.split("+").every((tag) => KNOWN_TAGS.has(tag))))
    return value;
  const key = keys.find((candidate) => candidate === "else" || applies(candidate, tags));
  return key === undefined ? undefined : (value as Record<string, unknown>)[key];
}

const KNOWN_TAGS = new Set([
  ...["discarding", "accumulating", "strict", "lenient", "merges"],
  ...["global", "fixed", "sliding", "sessions", "calendar", "custom", "merging"],
]);

function applies(condition: string, tags: ReadonlySet<string>): boolean {
  return condition.split("+").every((tag) => tags.has(tag));
}

/** A timestamp, `{value, timestamp}`, or the two in a list. A number without a timestamp is its own. */
function toElement(element: unknown): Element {
  if (typeof element === "number") return { key: "key", value: element, timestampMs: toMs(element) };
  if (Array.isArray(element) && element.length === 2)
    return { key: "key", value: element[0], timestampMs: toMs(element[1]) };
  if (typeof element !== "object" || element === null || Array.isArray(element))
    throw new Error(`${show(element)} is no element: give a timestamp or {value, timestamp}`);
  const { key = "key", value, timestamp } = element as { key?: string; value?: unknown; timestamp?: unknown };
  return { key, value: value ?? timestamp, timestampMs: toMs(timestamp ?? value) };
}

function show(value: unknown): string {
  return JSON.stringify(value);
}
