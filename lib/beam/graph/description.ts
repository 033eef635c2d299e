import type { GraphDescription, StageDescription } from "../api";
import { finalizersOf } from "../operators/finalizations";
import { describeWork } from "./fingerprint";
import type { FusedStage } from "./fusion";
import { type Graph, type GraphNode, hasSides } from "./node";
import { windowingSettings } from "./windowing-strategy";

/**
 * The graph as plain data, stage by stage, to be stored and compared with another build's. What a stage keeps between
 * bundles is its root's: waiting elements, groups, cells, timers, restrictions, panes of side inputs. What is fused behind
 * the root keeps nothing, so it may be other transforms.
 */
export function describeGraph(graph: Graph, stages: readonly FusedStage[]): GraphDescription {
  const rootOf = new Map(
    stages.flatMap(({ id, root }) => Object.values(root.outputs).map((out) => [out, id])),
  );
  return {
    stages: stages.map((stage) => describeStage(stage, graph, rootOf)),
    finalizers: [...finalizersOf(graph).keys()].sort(),
  };
}

function describeStage(
  { id, root, nodes }: FusedStage,
  graph: Graph,
  rootOf: ReadonlyMap<string, string>,
): StageDescription {
  const { kind, ...settings } = describeWork(root.work);
  const windowings = new Set(
    root.inputs.map((input) => textOf(windowingSettings(graph.windowing.get(input)!))),
  );
  const form: [string, unknown][] = [["transform", kind], ...Object.entries(settings)];
  if (root.coders !== undefined) form.push(["coders", [...root.coders.urns]]);
  return {
    id,
    form: {
      ...Object.fromEntries(form.map(([name, value]) => [name, textOf(value)])),
      ...(windowings.size > 0 ? { windowing: [...windowings].join(", ") } : {}),
    },
    sides: hasSides(root)
      ? Object.fromEntries(Object.entries(root.sides).map(([tag, view]) => [tag, rootOf.get(view) ?? view]))
      : {},
    transforms: Object.fromEntries(nodes.filter((node) => node !== root).map(transformText)),
  };
}

function transformText({ name, work }: GraphNode): [string, string] {
  return [name, textOf(describeWork(work))];
}

/** Equal values have equal texts, however their keys are ordered, and others have others. */
function textOf(value: unknown): string {
  return typeof value === "string" ? value : (JSON.stringify(value, inOrder) ?? "none");
}

function inOrder(_key: string, value: unknown): unknown {
  if (typeof value === "bigint") return `${value}n`;
  if (typeof value === "number" && !Number.isFinite(value)) return String(value);
  if (value instanceof Map) return { map: [...value] };
  if (value instanceof Set) return { set: [...value] };
  if (typeof value !== "object" || value === null || Array.isArray(value)) return value;
  return Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)));
}
