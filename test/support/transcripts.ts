import { readFileSync } from "node:fs";
import { parseAllDocuments } from "yaml";
import { keyId } from "../../lib/beam/coders/key";
import { paneCodec } from "../../lib/beam/coders/pane-state-coder";
import type { StoredRow } from "../../lib/beam/coders/state-coder";
import type { Accumulation } from "../../lib/beam/engine/aggregation";
import { EMPTY_PANES, TentativePanes, type TriggerTime } from "../../lib/beam/engine/pane-aggregation";
import type { PaneState } from "../../lib/beam/engine/pane-cell";
import { type PanePlan, planPanes } from "../../lib/beam/engine/pane-plan";
import type { Pane } from "../../lib/beam/engine/panes";
import type { Trigger } from "../../lib/beam/engine/trigger";
import type { Windowing } from "../../lib/beam/engine/windowing";
import { assigner, GLOBAL_WINDOW, maxTimestamp, type Window } from "../../lib/beam/engine/windows";
import { randomNumbers } from "../../lib/simulation/random-numbers";
import { reopened } from "./reopened-state";
import { parseExpression, toTrigger, toWindowFn, windowTags } from "./transcript-expressions";

/**
 * Runs transcripts: a windowing strategy, then steps and the panes that must come of them.
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
 */
export interface Transcript {
  readonly name: string;
  readonly rule: string | undefined;
  readonly settings: Settings;
  readonly windowing: Windowing;
  readonly tags: ReadonlySet<string>;
  readonly steps: readonly Step[];
  readonly error: string | undefined;
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

interface Element {
  readonly key: string;
  readonly value: unknown;
  readonly timestampMs: number;
}

type Step =
  | { readonly kind: "input"; readonly elements: readonly Element[] }
  | { readonly kind: "watermark" | "clock"; readonly timeMs: number }
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

/** All transcripts of a file, one for each combination of settings. */
export function readTranscripts(file: string): Transcript[] {
  return parseAllDocuments(readFileSync(file, "utf8")).flatMap((document) => {
    if (document.errors.length > 0) throw document.errors[0]!;
    const spec = document.toJS() as Record<string, unknown> | null;
    return spec === null ? [] : combinations(spec).map((settings) => toTranscript(spec, settings));
  });
}

function combinations(spec: Record<string, unknown>): Settings[] {
  let all: Record<string, unknown>[] = [{}];
  for (const [name, fallback] of Object.entries(DEFAULTS)) {
    const given = spec[name] ?? fallback;
    all = all.flatMap((one) => [given].flat().map((value) => ({ ...one, [name]: value })));
  }
  return all as unknown as Settings[];
}

function toTranscript(spec: Record<string, unknown>, settings: Settings): Transcript {
  const windowFn = toWindowFn(parseExpression(settings.window_fn));
  const accumulating = settings.accumulation_mode.toUpperCase() === "ACCUMULATING";
  const windowing: Windowing = {
    windowFn,
    trigger: toTrigger(parseExpression(settings.trigger_fn)),
    accumulating,
    allowedLatenessMs: settings.allowed_lateness * 1000,
    outputTime: outputTime(settings.timestamp_combiner),
    emptyOnTimePanes: settings.on_time_behavior !== "FIRE_IF_NONEMPTY",
    emptyFinalPanes: settings.closing_behavior === "EMIT_ALWAYS",
    alreadyMerged: false,
  };
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
    steps: ((spec.transcript ?? []) as Record<string, unknown>[]).map((step) => toStep(step, tags)),
    error: spec.error === undefined ? undefined : String(spec.error),
  };
}

function outputTime(name: string): Windowing["outputTime"] {
  const combiner = name.toUpperCase().replace(/^OUTPUT_AT_/, "");
  if (combiner === "EOW" || combiner === "END_OF_WINDOW") return "END_OF_WINDOW";
  if (combiner === "EARLIEST" || combiner === "LATEST") return combiner;
  throw new Error(`the timestamp combiner ${name} is not supported`);
}

function toStep(step: Record<string, unknown>, tags: ReadonlySet<string>): Step {
  const [[kind, given], ...more] = Object.entries(step) as [[string, unknown], ...[string, unknown][]];
  if (more.length > 0) throw new Error(`a step must have one action, not ${Object.keys(step).join(", ")}`);
  const value = resolve(given, tags);
  switch (kind) {
    case "input":
      return { kind, elements: (value as unknown[]).map(toElement) };
    case "watermark":
    case "clock":
      return { kind, timeMs: toMs(value) };
    case "expect":
      return {
        kind,
        panes: ((value ?? []) as Record<string, unknown>[]).flatMap((pane) => expected(pane, tags)),
      };
    case "state":
      return { kind, lists: value as Record<string, unknown[]> };
    default:
      throw new Error(`the action ${kind} is unknown`);
  }
}

/** `only` leaves a pane out where its tags do not apply; `copies` is how often it comes. */
function expected(pane: Record<string, unknown>, tags: ReadonlySet<string>): Record<string, unknown>[] {
  const { only, copies, ...attributes } = pane;
  if (only !== undefined && ![only].flat().some((condition) => applies(String(condition), tags))) return [];
  const resolved = Object.fromEntries(
    Object.entries(attributes).map(([name, value]) => [name, resolve(value, tags)]),
  );
  return new Array(Number(resolve(copies, tags) ?? 1)).fill(resolved);
}

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

function toElement(element: unknown): Element {
  if (typeof element === "number") return { key: "key", value: element, timestampMs: toMs(element) };
  const { key = "key", value, timestamp } = element as { key?: string; value: unknown; timestamp: unknown };
  return { key, value, timestampMs: toMs(timestamp) };
}

function toMs(seconds: unknown): number {
  if (seconds === "inf" || seconds === "infinity" || seconds === "+inf") return Infinity;
  if (typeof seconds !== "number" || Number.isNaN(seconds))
    throw new Error(`${String(seconds)} is not a time`);
  return seconds * 1000;
}

/** How a transcript is cut into bundles. State is encoded and decoded at each cut. */
export type TranscriptShape = "steps" | "one bundle" | "elements" | { readonly seed: number };

/** The shapes that the transcript's panes may not depend on. */
export function shapesOf(transcript: Transcript): TranscriptShape[] {
  const shapes: TranscriptShape[] = ["steps", "one bundle"];
  if (!dependsOnInputs(transcript)) shapes.push("elements", { seed: 1 }, { seed: 2 }, { seed: 3 });
  return shapes;
}

/** Several elements arrive together and a trigger that is asked after each of them could fire in between. */
function dependsOnInputs({ steps, windowing: { trigger } }: Transcript): boolean {
  let late = false;
  for (const step of steps) {
    if (step.kind === "input" && step.elements.length > 1 && (late || looksAtElements(trigger))) return true;
    late ||= step.kind === "watermark";
  }
  return false;
}

function looksAtElements(trigger: Trigger): boolean {
  if (trigger.kind === "elementCount" || trigger.kind === "always") return true;
  const parts =
    "parts" in trigger ? trigger.parts : Object.values(trigger).filter((part) => typeof part === "object");
  return (parts as (Trigger | undefined)[]).some((part) => part?.kind !== undefined && looksAtElements(part));
}

/** Undefined if all is as expected, else what is not. */
export function runTranscript(transcript: Transcript, shape: TranscriptShape): string | undefined {
  const run = new TranscriptRun(transcript, shape);
  const problem = run.problem();
  if (transcript.error === undefined) return problem;
  if (problem?.includes(transcript.error)) return undefined;
  return `it should fail with "${transcript.error}", but ${problem === undefined ? "passes" : `says: ${problem}`}`;
}

const LISTS: Accumulation = {
  create: () => [],
  add: (list, value) => {
    (list as unknown[]).push(value);
    return list;
  },
  extract: (list) => list,
  copy: (list) => [...(list as unknown[])],
  merge: (lists) => lists.flat(),
};

class TranscriptRun {
  private readonly plan: PanePlan;
  private readonly triggerTime: TriggerTime;
  private readonly random: () => number;
  private state: PaneState<StoredRow> = EMPTY_PANES;
  private bundle: TentativePanes<StoredRow> | undefined;
  private output: Record<string, unknown>[] = [];
  private nowMs = 0;

  constructor(
    private readonly transcript: Transcript,
    private readonly shape: TranscriptShape,
  ) {
    this.plan = planPanes(transcript.windowing);
    this.triggerTime = shape === "steps" || shape === "one bundle" ? "settle" : "element";
    this.random = randomNumbers(typeof shape === "object" ? shape.seed : 1);
  }

  problem(): string | undefined {
    for (const [index, step] of this.transcript.steps.entries()) {
      const problem = step.kind === "expect" ? this.expect(step.panes) : this.unexpected();
      if (problem !== undefined) return `step ${index + 1} (${step.kind}): ${problem}`;
      if (step.kind === "state") {
        const wrong = this.stateProblem(step.lists);
        if (wrong !== undefined) return `step ${index + 1} (state): ${wrong}`;
      } else if (step.kind !== "expect") this.act(step);
    }
    const problem = this.unexpected();
    return problem === undefined ? undefined : `at the end: ${problem}`;
  }

  private act(step: Extract<Step, { kind: "input" | "watermark" | "clock" }>): void {
    if (step.kind === "input") {
      for (const element of step.elements) {
        this.add(element);
        this.maybeCut();
      }
      this.current().settle();
    } else {
      if (step.kind === "clock") this.nowMs = step.timeMs;
      const limit = this.shape === "one bundle" || this.shape === "steps" ? Infinity : 1;
      for (let more = true; more; this.maybeCut()) {
        const bundle = this.current();
        more =
          step.kind === "clock"
            ? bundle.advanceClock(step.timeMs, limit)
            : bundle.advance(step.timeMs, limit);
      }
    }
    if (this.shape === "steps") this.cut();
  }

  private add({ key, value, timestampMs }: Element): void {
    const assign = assigner(this.plan.windowing.windowFn);
    const bundle = this.current();
    for (const window of [assign(timestampMs, value, GLOBAL_WINDOW)].flat() as Window[]) {
      bundle.add(keyId(key), key, value, window, timestampMs);
    }
  }

  private current(): TentativePanes<StoredRow> {
    this.bundle ??= new TentativePanes(
      this.plan,
      this.state,
      LISTS,
      paneCodec("transcript", this.plan.trigger.size),
      (key, value, timestampMs, window, pane) =>
        this.output.push(describe(key, value, timestampMs, window, pane)),
      -Infinity,
      this.nowMs,
      this.triggerTime,
    );
    return this.bundle;
  }

  private maybeCut(): void {
    if (this.shape === "elements" || (typeof this.shape === "object" && this.random() < 0.4)) this.cut();
  }

  /** Commits: what goes on is what the encoding of the state says. */
  private cut(): void {
    if (this.bundle === undefined) return;
    this.state = reopened(this.bundle.result(), this.plan);
    this.bundle = undefined;
  }

  private expect(panes: readonly Record<string, unknown>[]): string | undefined {
    for (const pane of panes) {
      const index = this.output.findIndex((candidate) => matches(candidate, pane));
      if (index === -1) return `Unmatched output: ${show(pane)} is not among ${show(this.output)}`;
      this.output.splice(index, 1);
    }
    return undefined;
  }

  private unexpected(): string | undefined {
    return this.output.length === 0 ? undefined : `Unexpected output: ${show(this.output)}`;
  }

  /** `present`: it has state; `tombstone`: only that its trigger has finished; `absent`: neither of the first. */
  private stateProblem(lists: Readonly<Record<string, readonly unknown[]>>): string | undefined {
    const codec = paneCodec("transcript", this.plan.trigger.size);
    // The bundle may go on, so what it has changed is laid over what it began with.
    const rows = new Map(this.state.rows.entries());
    for (const [id, { value }] of this.current().result().rows.changes) {
      if (value === undefined) rows.delete(id);
      else rows.set(id, value);
    }
    const open: string[] = [];
    const closed: string[] = [];
    for (const [id, row] of rows) {
      const { cells } = codec.decode(id, row);
      for (const cell of cells) (cell.closed ? closed : open).push(show(windowSeconds(cell.window)));
    }
    for (const [list, windows] of Object.entries(lists)) {
      for (const window of windows) {
        const isThere = (list === "tombstone" ? closed : open).includes(show(window));
        if (isThere === (list === "absent")) {
          return `${show(window)} should be ${list}; there are ${show(open)}, finished ${show(closed)}`;
        }
      }
    }
    return undefined;
  }
}

function describe(key: unknown, value: unknown, timestampMs: number, window: Window, pane: Pane) {
  return {
    key,
    window: windowSeconds(window),
    values: sorted([...(value as unknown[])]),
    timestamp: Math.floor(timestampMs / 1000),
    early: pane.timing === "EARLY",
    on_time: pane.timing === "ON_TIME",
    late: pane.timing === "LATE",
    first: pane.isFirst,
    final: pane.isLast,
    index: pane.index,
    nonspeculative_index: pane.nonSpeculativeIndex,
  };
}

function windowSeconds(window: Window): unknown {
  if (window.kind === "global") return "global";
  return [Math.floor(window.startMs / 1000), Math.floor(maxTimestamp(window) / 1000)];
}

function matches(pane: Record<string, unknown>, attributes: Record<string, unknown>): boolean {
  return Object.entries(attributes).every(([name, value]) => {
    if (!(name in pane)) throw new Error(`a pane has no attribute ${name}`);
    return (
      value === undefined || show(pane[name]) === show(name === "values" ? sorted(value as unknown[]) : value)
    );
  });
}

function sorted(values: readonly unknown[]): unknown[] {
  return [...values].sort((a, b) => {
    if (typeof a === "number" && typeof b === "number") return a - b;
    return show(a) < show(b) ? -1 : 1;
  });
}

function show(value: unknown): string {
  return JSON.stringify(value);
}

/** Runs files and reports each transcript; the number of those that failed. */
export function reportTranscripts(files: readonly string[], print: (line: string) => void): number {
  let failed = 0;
  let count = 0;
  for (const file of files) {
    for (const transcript of readTranscripts(file)) {
      count++;
      const problem = problemOf(transcript);
      if (problem !== undefined) failed++;
      print(problem === undefined ? `ok    ${transcript.name}` : `FAIL  ${transcript.name}: ${problem}`);
    }
  }
  print(`${count - failed} of ${count} transcripts passed`);
  return failed;
}

function problemOf(transcript: Transcript): string | undefined {
  for (const shape of shapesOf(transcript)) {
    try {
      const problem = runTranscript(transcript, shape);
      if (problem !== undefined) return `in ${JSON.stringify(shape)}: ${problem}`;
    } catch (error) {
      return `in ${JSON.stringify(shape)}: ${error instanceof Error ? error.message : String(error)}`;
    }
  }
  return undefined;
}

if (require.main === module) {
  const files = process.argv.slice(2);
  if (files.length === 0) console.error("usage: npm run transcripts -- FILE...");
  const print = (line: string) => process.stdout.write(`${line}\n`);
  process.exitCode = files.length === 0 || reportTranscripts(files, print) > 0 ? 1 : 0;
}
