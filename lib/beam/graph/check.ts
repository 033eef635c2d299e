import { ParDoParam } from "apache-beam";
import * as runnerApi from "apache-beam/proto/beam_runner_api";
import type { WindowFn } from "../engine/windows";
import type { PipelineProblem } from "../errors";
import type { PipelineBuilder } from "../sdk/pipeline-builder";
import { type Graph, type GraphNode, isShuffle } from "./node";
import { GraphReader } from "./reader";
import { describeWindowFn } from "./window-fn";

const GLOBAL_WINDOW_FN: WindowFn = { kind: "global" };

const KNOWN_PARAMS: ReadonlySet<string> = new Set(["window", "timestamp", "paneinfo", "metric", "sideInput"]);

/** The graph of a built pipeline, with everything in it that can't be run. */
export function readGraph(builder: PipelineBuilder): { graph: Graph; problems: PipelineProblem[] } {
  const problems: PipelineProblem[] = [...builder.problems];
  const { nodes } = new GraphReader(builder, problems).read();
  const windowing = new Map<string, WindowFn>();
  for (const node of nodes) {
    settleWindowing(node, windowing, problems);
    checkGrouping(node, windowing, builder, problems);
    checkParams(node, problems);
  }
  if (nodes.length === 0 && problems.length === 0) {
    const remedy = "Apply a source to the root, as in root.apply(readZnodeChanges(...)).";
    problems.push({ transform: "the pipeline", what: "it has no transforms", remedy });
  }
  return { graph: { nodes, windowing }, problems };
}

/** A collection has the windows of its inputs, but for what windowInto makes. */
function settleWindowing(
  node: GraphNode,
  windowing: Map<string, WindowFn>,
  problems: PipelineProblem[],
): void {
  const inputs = node.inputs.map((id) => windowing.get(id) ?? GLOBAL_WINDOW_FN);
  const first = inputs[0] ?? GLOBAL_WINDOW_FN;
  if (inputs.some((other) => describeWindowFn(other) !== describeWindowFn(first))) {
    const kinds = [...new Set(inputs.map(describeWindowFn))].join(", ");
    const remedy = "Apply the same windowInto to each of them.";
    problems.push({ transform: node.name, what: `its inputs differ in windowing (${kinds})`, remedy });
  }
  const result = node.work.kind === "windowInto" ? node.work.windowFn : first;
  for (const output of Object.values(node.outputs)) windowing.set(output, result);
}

/** Beam model: "GroupByKey cannot be applied to non-bounded PCollection in the GlobalWindow without a trigger". */
function checkGrouping(
  node: GraphNode,
  windowing: ReadonlyMap<string, WindowFn>,
  builder: PipelineBuilder,
  problems: PipelineProblem[],
): void {
  if (!isShuffle(node.work)) return;
  const input = node.inputs[0]!;
  const { isBounded } = builder.getProto().components!.pcollections[input]!;
  if (isBounded !== runnerApi.IsBounded_Enum.UNBOUNDED || windowing.get(input)?.kind !== "global") return;
  problems.push({
    transform: node.name,
    what: "it groups an unbounded source in the global window, which never ends, so it would never give a result",
    remedy: "Apply windowInto(fixedWindows(seconds)) before it.",
  });
}

function checkParams({ name, work }: GraphNode, problems: PipelineProblem[]): void {
  if (!("context" in work) || typeof work.context !== "object" || work.context === null) return;
  // The SDK hands on a copy whose prototype is what the user passed, so inherited properties count.
  for (const key in work.context) {
    const param = (work.context as Record<string, unknown>)[key];
    if (!(param instanceof ParDoParam) || KNOWN_PARAMS.has(param.parDoParamName)) continue;
    const what = `its context parameter "${key}" of the kind "${param.parDoParamName}" is not supported`;
    problems.push({ transform: name, what, remedy: "Use window, timestamp, pane info or a metric." });
  }
}
