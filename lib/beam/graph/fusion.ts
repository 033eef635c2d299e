import { type Graph, type GraphNode, isRoot, isShuffle } from "./node";

/** Transforms fused up to the next shuffle: a root and all that its output reaches without one. */
export interface FusedStage {
  readonly id: string;
  readonly root: GraphNode;
  /** The fused transforms after the root, in the order of construction. One that several roots reach is in each. */
  readonly nodes: readonly GraphNode[];
  /** The shuffles that it feeds. */
  readonly shuffles: readonly GraphNode[];
}

/** Greedy fusion. Stages come in the order in which data flows. */
export function fuse(graph: Graph): FusedStage[] {
  const consumers = consumersOf(graph);
  const roots = graph.nodes.filter((node) => isRoot(node.work));
  const ids = stageIds(roots);
  return roots.map((root, i) => {
    const reached = reach(root, consumers);
    const inOrder = graph.nodes.filter((node) => reached.has(node));
    return {
      id: ids[i]!,
      root,
      nodes: inOrder.filter((node) => !isShuffle(node.work)),
      shuffles: inOrder.filter((node) => isShuffle(node.work)),
    };
  });
}

/** Who reads a collection; a transform that reads it twice (flatten of a collection with itself) is there twice. */
export function consumersOf(graph: Pick<Graph, "nodes">): ReadonlyMap<string, readonly GraphNode[]> {
  const consumers = new Map<string, GraphNode[]>();
  for (const node of graph.nodes) {
    for (const input of node.inputs) consumers.set(input, [...(consumers.get(input) ?? []), node]);
  }
  return consumers;
}

function reach(root: GraphNode, consumers: ReadonlyMap<string, readonly GraphNode[]>): Set<GraphNode> {
  const reached = new Set<GraphNode>();
  const waiting = [root];
  for (let node = waiting.pop(); node !== undefined; node = waiting.pop()) {
    for (const output of Object.values(node.outputs)) {
      for (const consumer of consumers.get(output) ?? []) {
        if (reached.has(consumer)) continue;
        reached.add(consumer);
        if (!isShuffle(consumer.work)) waiting.push(consumer);
      }
    }
  }
  return reached;
}

/** The name of the transform that the user applied where it holds one root only, else the root's full name. */
function stageIds(roots: readonly GraphNode[]): string[] {
  const outermost = roots.map(({ name }) => name.split("/", 1)[0]!);
  return roots.map(({ name }, i) =>
    outermost.filter((other) => other === outermost[i]).length === 1 ? outermost[i]! : name,
  );
}
