import type { Trigger } from "../engine/trigger";
import { mergesWindows, type Windowing } from "../engine/windowing";
import type { Graph, GraphNode } from "./node";

/**
 * Combiner lifting: where no trigger counts elements, a combine gives the same whether its values come one by one or
 * combined within each bundle. A hot key then costs its shard one accumulator a bundle of each shard upstream. Where
 * triggers look at every element, or windows merge, each value goes through the shuffle by itself. Beam:
 * `is_compatible_with_combiner_lifting`.
 */
export function liftCombines(graph: Graph): Graph {
  return { ...graph, nodes: graph.nodes.map((node) => lift(node, graph.windowing)) };
}

function lift(node: GraphNode, windowing: Graph["windowing"]): GraphNode {
  if (node.work.kind !== "combine" || !canLift(windowing.get(node.inputs[0]!)!)) return node;
  return { ...node, work: { ...node.work, isLifted: true } };
}

/** An accumulator has the time of its earliest element, so the latest one's is lost. */
function canLift(windowing: Windowing): boolean {
  return !mergesWindows(windowing) && windowing.outputTime !== "LATEST" && isBlind(windowing.trigger);
}

/** Whether the trigger fires as it would if all elements of a bundle came as one. */
function isBlind(trigger: Trigger): boolean {
  switch (trigger.kind) {
    case "always":
    case "elementCount":
      return false;
    case "afterEndOfWindow":
      return (trigger.early === undefined || isBlind(trigger.early)) && isBlindWhenLate(trigger.late);
    case "afterAll":
    case "afterAny":
    case "afterEach":
      return trigger.parts.every(isBlind);
    case "orFinally":
      return isBlind(trigger.main) && isBlind(trigger.until);
    case "repeatedly":
      return isBlind(trigger.part);
    default:
      return true;
  }
}

/** Late elements have no pane of their own anywhere: those that come together may be one. */
function isBlindWhenLate(late: Trigger | undefined): boolean {
  return (
    late === undefined ||
    late.kind === "always" ||
    (late.kind === "elementCount" && late.count === 1) ||
    isBlind(late)
  );
}
