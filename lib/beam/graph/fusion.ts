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
  const roots = graph.nodes.filter(isRoot);
  const ids = stageIds(roots);
  return roots.map((root, i) => {
    const reached = reach(root, consumers);
    const inOrder = graph.nodes.filter((node) => reached.has(node));
    return {
      id: ids[i]!,
      root,
      nodes: inOrder.filter((node) => !isShuffle(node)),
      shuffles: inOrder.filter(isShuffle),
    };
  });
}

/** Who reads a collection: as an element of its main input, or as a pane of the side input `side`. */
export interface Consumer {
  readonly node: GraphNode;
  readonly side?: string;
}

/** A transform that reads a collection twice (flatten of a collection with itself) is there twice. */
export function consumersOf(graph: Pick<Graph, "nodes">): ReadonlyMap<string, readonly Consumer[]> {
  const consumers = new Map<string, Consumer[]>();
  const add = (collection: string, consumer: Consumer) => {
    const others = consumers.get(collection);
    if (others === undefined) consumers.set(collection, [consumer]);
    else others.push(consumer);
  };
  for (const node of graph.nodes) {
    for (const input of node.inputs) add(input, { node });
    for (const [side, view] of Object.entries(node.sides)) add(view, { node, side });
  }
  return consumers;
}

function reach(root: GraphNode, consumers: ReturnType<typeof consumersOf>): Set<GraphNode> {
  const reached = new Set<GraphNode>();
  const waiting = [root];
  for (let node = waiting.pop(); node !== undefined; node = waiting.pop()) {
    for (const output of Object.values(node.outputs)) {
      for (const { node: consumer } of consumers.get(output) ?? []) {
        if (reached.has(consumer)) continue;
        reached.add(consumer);
        if (!isShuffle(consumer)) waiting.push(consumer);
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
