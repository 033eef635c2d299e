import { firesOnceAtTheEnd } from "../engine/windowing";
import type { Graph, GraphNode } from "./node";

/**
 * Combiner lifting: a combine whose windows each give one pane, at their end, gives the same whether its values come
 * one by one or combined within each bundle. A hot key then costs its shard one accumulator a bundle of each shard
 * upstream. Where triggers look at elements, or windows merge, each value goes through the shuffle by itself.
 */
export function liftCombines(graph: Graph): Graph {
  return { ...graph, nodes: graph.nodes.map((node) => lift(node, graph.windowing)) };
}

function lift(node: GraphNode, windowing: Graph["windowing"]): GraphNode {
  if (node.work.kind !== "combine" || !firesOnceAtTheEnd(windowing.get(node.inputs[0]!)!)) return node;
  return { ...node, work: { ...node.work, isLifted: true } };
}
