import { appendFileSync } from "node:fs";
import { setImmediate } from "node:timers/promises";
import * as beam from "apache-beam";
import {
  bundleFinalizer,
  definePipeline,
  type FailureOptions,
  mapAsync,
  type PipelineDefinition,
  readZnodeChanges,
  writeToText,
  writeToZnodes,
  type ZnodeChange,
} from "beamkeeper";

export interface SampleOptions {
  readonly name?: string;
  /** What is watched. */
  readonly source: string;
  /** Where result znodes go, and the prefix of the text files. */
  readonly results: string;
  readonly shards?: number;
  /** Values that begin with this make the functions fail: with "-element" behind it the first one, with "-pane" the one behind the grouping. */
  readonly poison?: string;
  readonly failures?: FailureOptions;
  /**
   * A file. With it each element waits for an asynchronous call, and a finaliser hears of it; both write a line of what,
   * the element's zxid, and the call's own name.
   */
  readonly diary?: string;
}

/** Where a process may die beside its commits: in a call or a finaliser, before or after its line. */
export type Witness = (kind: "call" | "finalizer", point: "before" | "after") => Promise<void>;

interface Seen {
  readonly order: string;
  readonly kind: ZnodeChange["kind"];
  readonly value: string | null;
}

/** A znode's changes in one window: what was seen in order, and what was missed. */
export interface Summary {
  readonly path: string;
  readonly seen: readonly Seen[];
  readonly missed: number;
  readonly atLeast: boolean;
}

/** Changes in windows of one second, summarised for each znode, as znodes and as text: three stages. */
export function summaryPipeline({
  name = "summary",
  source,
  results,
  shards = 1,
  poison,
  failures = {},
  diary,
  witness = async () => undefined,
}: SampleOptions & { readonly witness?: Witness }): PipelineDefinition {
  const isPoison = (value: string | null, where: "element" | "pane"): boolean =>
    poison !== undefined && (value ?? "").startsWith(`${poison}-${where}`);
  return definePipeline({
    name,
    shards,
    failures,
    build: (root) => {
      const changes = root.apply(readZnodeChanges(source));
      const summaries = (diary === undefined ? changes : changes.apply(calling(diary, witness)))
        .map(({ path, kind, text, mzxid, missed, missedAtLeast }) => {
          if (isPoison(text, "element")) throw new RangeError(`${text} is poison`);
          const seen: Seen[] = [{ order: mzxid.toString(16).padStart(16, "0"), kind, value: text }];
          return { path, seen, missed, atLeast: missedAtLeast };
        })
        .apply(beam.windowInto(beam.fixedWindows(1)))
        .apply(
          beam
            .groupBy("path")
            .combining("seen", (a: Seen[], b: Seen[]) => [...a, ...b], "seen")
            .combining("missed", (a: number, b: number) => a + b, "missed")
            .combining("atLeast", (a: boolean, b: boolean) => a || b, "atLeast"),
        )
        .map(
          ({ path, seen, missed, atLeast }, { window }) => {
            if (seen.some(({ value }) => isPoison(value, "pane")))
              throw new RangeError(`a pane of ${path} is poison`);
            const ordered = [...seen].sort((a, b) => (a.order < b.order ? -1 : a.order > b.order ? 1 : 0));
            const start = (window.lookup() as beam.IntervalWindow).start.toNumber();
            return { start, summary: { path, seen: ordered, missed, atLeast } };
          },
          { window: beam.windowParam() },
        );
      summaries.apply(
        writeToZnodes(({ start, summary }) => ({
          path: `${results}/${start}/${encodeURIComponent(summary.path)}`,
          data: JSON.stringify(summary),
        })),
      );
      summaries.apply(writeToText(`${results.slice(1)}/part`, { suffix: ".jsonl" }));
    },
  });
}

let calls = 0;

function calling(
  diary: string,
  witness: Witness,
): beam.PTransform<beam.PCollection<ZnodeChange>, beam.PCollection<ZnodeChange>> {
  const write = async (kind: "call" | "finalizer", line: string): Promise<void> => {
    await witness(kind, "before");
    appendFileSync(diary, `${kind} ${line}\n`);
    await witness(kind, "after");
  };
  const done = bundleFinalizer(async (lines: readonly string[]) => {
    for (const line of lines) await write("finalizer", line);
  });
  return mapAsync(
    async (change: ZnodeChange, { context }) => {
      const line = `${change.mzxid.toString(16)} ${process.pid}.${++calls}`;
      await setImmediate();
      await write("call", line);
      context.done.afterCommit(line);
      return change;
    },
    { concurrency: 4, ordered: false, context: { done } },
  );
}

/** A pipeline whose function throws for one value. */
export function failingPipeline(
  { name = "failing", source, results }: SampleOptions,
  poison: string,
): PipelineDefinition {
  return definePipeline({
    name,
    build: (root) => {
      root
        .apply(readZnodeChanges(source))
        .map((change) => {
          if (change.text === poison) throw new RangeError("the value is poison");
          return change;
        })
        .apply(
          writeToZnodes((change) => ({
            path: `${results}/${encodeURIComponent(change.path)}`,
            data: change.text ?? "",
          })),
        );
    },
  });
}
