import { type Windowing, windowingAfterGrouping } from "../engine/windowing";
import type { ElementCoder, GroupingCoders } from "./element-coders";
import type { Graph, GraphNode, UserCombineFn } from "./node";

interface KeyedPair {
  readonly key: unknown;
  readonly value: unknown;
}

/** A key with the number of its part, which elements take by turns. */
type PartKey = readonly [key: unknown, part: number];

/**
 * A combine with a fan-out becomes two: the first brings together the values of each part of a key, in panes that say
 * only what is new, and the second the accumulators that the first gives, under the windowing that the user has chosen.
 * Beam model: `Combine.PerKey.withHotKeyFanout`.
 */
export function fanOutCombines(graph: Graph): Graph {
  const windowing = new Map(graph.windowing);
  const nodes = graph.nodes.flatMap((node) => {
    if (node.work.kind !== "combine" || node.work.fanout === undefined) return [node];
    return fannedOut(node, node.work.combineFn, node.work.fanout, windowing);
  });
  return { nodes, windowing };
}

function fannedOut(
  node: GraphNode,
  fn: UserCombineFn,
  fanout: number,
  windowing: Map<string, Windowing>,
): GraphNode[] {
  const { coders, ...rest } = node;
  const { name, inputs } = rest;
  const chosen = windowing.get(inputs[0]!)!;
  // An empty pane of a part says nothing; the second combine has those that were asked for.
  const ofParts = { ...chosen, accumulating: false, emptyOnTimePanes: false, emptyFinalPanes: false };
  const collection = (what: string, windows: Windowing): string => {
    const id = `${name}/${what}`;
    windowing.set(id, windows);
    return id;
  };
  const parted = collection("parted", ofParts);
  const combined = collection("combined parts", windowingAfterGrouping(ofParts));
  // Windows that the first combine has merged are merged with those of other parts by the second.
  const accumulators = collection("accumulators", chosen);
  const map = (what: string, fn: (element: unknown) => unknown, from: string, to: string): GraphNode => ({
    name: `${name}/${what}`,
    work: { kind: "map", fn, context: undefined },
    inputs: [from],
    sides: {},
    outputs: { out: to },
  });
  return [
    map("part", partOf(fanout), inputs[0]!, parted),
    {
      name: `${name}/combineParts`,
      work: { kind: "combine", combineFn: { ...bound(fn), extractOutput: (all) => all }, isLifted: false },
      inputs: [parted],
      sides: {},
      outputs: { out: combined },
      ...(coders === undefined ? {} : { coders: { ...coders, key: coders.key && ofPart(coders.key) } }),
    },
    map("unite", withoutPart, combined, accumulators),
    {
      ...rest,
      work: { kind: "combine", combineFn: ofAccumulators(fn), isLifted: false },
      inputs: [accumulators],
      ...(coders?.key === undefined ? {} : { coders: ofKeyAlone(coders) }),
    },
  ];
}

/** Which part an element is in does not matter, as long as each gets as many of a hot key's. */
function partOf(fanout: number): (element: unknown) => unknown {
  let turn = 0;
  return (element) => {
    // What is no pair the combine refuses, as it would without parts.
    if (typeof element !== "object" || element === null || !("key" in element)) return element;
    const { key, value } = element as KeyedPair;
    turn = (turn + 1) % fanout;
    return { key: [key, turn] satisfies PartKey, value };
  };
}

function withoutPart(element: unknown): KeyedPair {
  const { key, value } = element as KeyedPair;
  return { key: (key as PartKey)[0], value };
}

/** The functions of a CombineFn may be methods of a class. */
function bound(fn: UserCombineFn): UserCombineFn {
  return {
    createAccumulator: () => fn.createAccumulator(),
    addInput: (accumulator, input) => fn.addInput(accumulator, input),
    mergeAccumulators: (accumulators) => fn.mergeAccumulators(accumulators),
    extractOutput: (accumulator) => fn.extractOutput(accumulator),
  };
}

function ofAccumulators(fn: UserCombineFn): UserCombineFn {
  return {
    ...bound(fn),
    addInput: (accumulator, other) => fn.mergeAccumulators([accumulator, other]),
  };
}

function ofPart(coder: ElementCoder): ElementCoder {
  const each = (code: (key: unknown) => unknown) => (key: unknown) => {
    const [whole, part] = key as PartKey;
    return [code(whole), part];
  };
  return {
    toPlain: each((key) => coder.toPlain(key)),
    fromPlain: each((plain) => coder.fromPlain(plain)),
  };
}

/** Accumulators are plain data, as in the state of any combine. */
function ofKeyAlone({ key, urns }: GroupingCoders): GroupingCoders {
  return { key, value: undefined, urns: urns.slice(0, 1) };
}
