import { ParDoParam } from "apache-beam";
import * as runnerApi from "apache-beam/proto/beam_runner_api";
import {
  defaultWindowing,
  firesOnceAtTheEnd,
  mergesWindows,
  type Windowing,
  windowingAfterGrouping,
} from "../engine/windowing";
import { isMerging } from "../engine/windows";
import type { PipelineProblem } from "../errors";
import type { PipelineBuilder } from "../sdk/pipeline-builder";
import { type Graph, type GraphNode, isGrouping } from "./node";
import { GraphReader } from "./reader";
import { describeWindowFn } from "./window-fn";
import { describeWindowing } from "./windowing-strategy";

const GLOBAL_WINDOWING = defaultWindowing({ kind: "global" });

const KNOWN_PARAMS: ReadonlySet<string> = new Set([
  "window",
  "timestamp",
  "paneinfo",
  "metric",
  "sideInput",
  "bundleFinalizer",
  "znode",
]);

const PARAMS_OF_ELEMENTS: ReadonlySet<string> = new Set(["window", "timestamp", "paneinfo", "sideInput"]);

/** The graph of a built pipeline, with everything in it that can't be run. */
export function readGraph(builder: PipelineBuilder): { graph: Graph; problems: PipelineProblem[] } {
  const problems: PipelineProblem[] = [...builder.problems];
  const { nodes } = new GraphReader(builder, problems).read();
  const windowing = new Map<string, Windowing>();
  for (const node of nodes) {
    settleWindowing(node, windowing, problems);
    checkGrouping(node, windowing, builder, problems);
    checkSides(node, windowing, problems);
    checkStateful(node, windowing, problems);
    checkParams(node, problems);
  }
  checkClaims(nodes, problems);
  if (nodes.length === 0 && problems.length === 0) {
    const remedy = "Apply a source to the root, as in root.apply(readZnodeChanges(...)).";
    problems.push({ transform: "the pipeline", what: "it has no transforms", remedy });
  }
  return { graph: { nodes, windowing }, problems };
}

/** A collection has the windows of its inputs, but for what windowInto makes. */
function settleWindowing(
  node: GraphNode,
  windowing: Map<string, Windowing>,
  problems: PipelineProblem[],
): void {
  const inputs = node.inputs.map((id) => windowing.get(id) ?? GLOBAL_WINDOWING);
  const first = inputs[0] ?? GLOBAL_WINDOWING;
  const isFree = node.work.kind === "flatten" && node.work.asFirst;
  if (!isFree && inputs.some((other) => describeWindowing(other) !== describeWindowing(first))) {
    const kinds = [...new Set(inputs.map(describeWindowing))].join(", ");
    const remedy = "Apply the same windowInto to each of them.";
    problems.push({ transform: node.name, what: `its inputs differ in windowing (${kinds})`, remedy });
  }
  const grouped = isGrouping(node.work) ? windowingAfterGrouping(first) : first;
  const result = node.work.kind === "windowInto" ? node.work.windowing : grouped;
  for (const output of Object.values(node.outputs)) windowing.set(output, result);
}

/** Beam model: "GroupByKey cannot be applied to non-bounded PCollection in the GlobalWindow without a trigger". */
function checkGrouping(
  node: GraphNode,
  windowing: ReadonlyMap<string, Windowing>,
  builder: PipelineBuilder,
  problems: PipelineProblem[],
): void {
  if (!isGrouping(node.work)) return;
  const input = node.inputs[0]!;
  const { isBounded } = builder.getProto().components!.pcollections[input]!;
  const { windowFn } = windowing.get(input)!;
  const ends = windowFn.kind !== "global" || !firesOnceAtTheEnd(windowing.get(input)!);
  if (isBounded !== runnerApi.IsBounded_Enum.UNBOUNDED || ends) return;
  problems.push({
    transform: node.name,
    what: "it groups an unbounded source in the global window, which never ends, so it would never give a result",
    remedy: "Apply windowInto(fixedWindows(seconds)) before it, or a trigger.",
  });
}

/** Two sinks that write to the same place would overwrite each other's results. */
function checkClaims(nodes: readonly GraphNode[], problems: PipelineProblem[]): void {
  const owners = new Map<string, string>();
  for (const { name, work } of nodes) {
    if (work.kind !== "write" || work.spec.claim === undefined) continue;
    const owner = owners.get(work.spec.claim);
    if (owner === undefined) owners.set(work.spec.claim, name);
    else {
      const what = `it would overwrite ${work.spec.claim}, which "${owner}" writes as well`;
      problems.push({ transform: name, what, remedy: "Give each of them a prefix or suffix of its own." });
    }
  }
}

function checkSides(
  { name, inputs, sides }: GraphNode,
  windowing: ReadonlyMap<string, Windowing>,
  problems: PipelineProblem[],
): void {
  const main = windowing.get(inputs[0]!) ?? GLOBAL_WINDOWING;
  for (const [tag, view] of Object.entries(sides)) {
    const { windowFn } = windowing.get(view)!;
    const side = `its side input "${tag.replace(/^side\./, "")}" has ${describeWindowFn(windowFn)}`;
    if (isMerging(windowFn)) {
      const what = `${side}, and windows that merge can't be looked up`;
      problems.push({ transform: name, what, remedy: "Apply windowInto(fixedWindows(seconds)) to it." });
    } else if (windowFn.kind !== "global" && main.windowFn.kind === "global") {
      const what = `${side}, while its input is in the global window, which is in none of them`;
      problems.push({ transform: name, what, remedy: "Give both the same windowInto." });
    }
  }
}

/** Beam model: state is not supported in merging windows, since what two windows hold can't be made one. */
function checkStateful(
  { name, inputs, work }: GraphNode,
  windowing: ReadonlyMap<string, Windowing>,
  problems: PipelineProblem[],
): void {
  if (work.kind !== "stateful") return;
  const input = windowing.get(inputs[0]!)!;
  if (mergesWindows(input)) {
    const what = `it keeps state in ${describeWindowFn(input.windowFn)}, and what windows hold that merge can't be made one`;
    const remedy =
      "Give it fixed or global windows; a session can be kept in state, with a timer that is set anew.";
    problems.push({ transform: name, what, remedy });
  }
  const params = Object.entries(work.spec.doFn.params ?? {});
  for (const [key, param] of params)
    if (param instanceof ParDoParam && param.parDoParamName === "sideInput") {
      const what = `its parameter "${key}" is a side input, which a transform with state can't have`;
      problems.push({ transform: name, what, remedy: "Look it up in a map before or after." });
    }
}

function checkParams({ name, work }: GraphNode, problems: PipelineProblem[]): void {
  if (!("context" in work) || typeof work.context !== "object" || work.context === null) return;
  // The SDK hands on a copy whose prototype is what the user passed, so inherited properties count.
  for (const key in work.context) {
    const param = (work.context as Record<string, unknown>)[key];
    if (!(param instanceof ParDoParam)) continue;
    if (work.kind === "async" && work.fn.kind === "batch" && PARAMS_OF_ELEMENTS.has(param.parDoParamName)) {
      const what = `its context parameter "${key}" belongs to an element, and it is called for batches`;
      problems.push({ transform: name, what, remedy: "Use mapAsync, or add it to the elements before." });
    }
    if (KNOWN_PARAMS.has(param.parDoParamName)) continue;
    const what = `its context parameter "${key}" of the kind "${param.parDoParamName}" is not supported`;
    problems.push({ transform: name, what, remedy: "Use window, timestamp, pane info or a metric." });
  }
}
