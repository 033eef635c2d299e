import { keyId } from "../../lib/beam/coders/key";
import { paneCodec } from "../../lib/beam/coders/pane-state-coder";
import type { StoredRow } from "../../lib/beam/coders/state-coder";
import type { Accumulation } from "../../lib/beam/engine/aggregation";
import { EMPTY_PANES, TentativePanes, type TriggerTime } from "../../lib/beam/engine/pane-aggregation";
import type { PaneState } from "../../lib/beam/engine/pane-cell";
import { type PanePlan, planPanes } from "../../lib/beam/engine/pane-plan";
import type { Pane } from "../../lib/beam/engine/panes";
import type { Trigger } from "../../lib/beam/engine/trigger";
import { assigner, GLOBAL_WINDOW, maxTimestamp, type Window } from "../../lib/beam/engine/windows";
import { randomNumbers } from "../../lib/simulation/random-numbers";
import { type BundleShape, SHAPES } from "./memory-runner";
import { reopened } from "./reopened-state";
import {
  type Element,
  readDocuments,
  type Step,
  type Transcript,
  type TranscriptDocument,
} from "./transcript-file";
import {
  firingAttributes,
  Outputs,
  show,
  sorted,
  type WindowBounds,
  windowSeconds,
} from "./transcript-panes";
import { runPipelineTranscript } from "./transcript-pipelines";

/** Runs transcripts; `npm run transcripts -- FILE` runs files. See `Transcript` for their form. */

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
export async function runTranscript(
  transcript: Transcript,
  shape: TranscriptShape | BundleShape,
): Promise<string | undefined> {
  const problem =
    transcript.transform === undefined
      ? new TranscriptRun(transcript, shape as TranscriptShape).problem()
      : await runPipelineTranscript(transcript, shape as BundleShape);
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
  private readonly output = new Outputs();
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
      const problem = step.kind === "expect" ? this.output.expect(step.panes) : this.output.unexpected();
      if (problem !== undefined) return `step ${index + 1} (${step.kind}): ${problem}`;
      if (step.kind === "state") {
        const wrong = this.stateProblem(step.lists);
        if (wrong !== undefined) return `step ${index + 1} (state): ${wrong}`;
      } else if (step.kind !== "expect") this.act(step);
    }
    const problem = this.output.unexpected();
    return problem === undefined ? undefined : `at the end: ${problem}`;
  }

  private act(step: Exclude<Step, { kind: "expect" | "state" }>): void {
    if (step.kind === "input") {
      for (const element of step.elements) {
        this.add(element);
        this.maybeCut();
      }
      this.current().settle();
    } else if ("timeMs" in step) {
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
      {
        emit: (key, value, timestampMs, window, pane) =>
          this.output.add(describe(key, value, timestampMs, window, pane)),
      },
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
      for (const cell of cells)
        (cell.closed ? closed : open).push(show(windowSeconds(boundsOf(cell.window))));
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
  const attributes = firingAttributes(pane, pane.nonSpeculativeIndex, timestampMs, boundsOf(window));
  return { key, values: sorted([...(value as unknown[])]), ...attributes };
}

function boundsOf(window: Window): WindowBounds {
  return window.kind === "global" ? undefined : [window.startMs, maxTimestamp(window)];
}

/** Runs files and reports each transcript; the number of those that failed. */
export async function reportTranscripts(
  files: readonly string[],
  print: (line: string) => void,
): Promise<number> {
  let failed = 0;
  let count = 0;
  const report = (name: string, problem: string | undefined): void => {
    count++;
    if (problem !== undefined) failed++;
    print(problem === undefined ? `ok    ${name}` : `FAIL  ${name}: ${problem}`);
  };
  for (const file of files) {
    let documents: readonly TranscriptDocument[];
    try {
      documents = readDocuments(file);
    } catch (error) {
      report(file, (error as Error).message);
      continue;
    }
    for (const { name, where, transcripts, error } of documents) {
      if (error !== undefined) report(name, error.message);
      for (const transcript of transcripts) {
        const problem = await problemOf(transcript);
        report(transcript.name, problem === undefined ? undefined : `${where}: ${problem}`);
      }
    }
  }
  print(`${count - failed} of ${count} transcripts passed`);
  return failed;
}

async function problemOf(transcript: Transcript): Promise<string | undefined> {
  for (const shape of transcript.transform === undefined ? shapesOf(transcript) : SHAPES) {
    try {
      const problem = await runTranscript(transcript, shape);
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
  process.exitCode = 1;
  void reportTranscripts(files, print).then((failed) => {
    if (files.length > 0 && failed === 0) process.exitCode = 0;
  });
}
