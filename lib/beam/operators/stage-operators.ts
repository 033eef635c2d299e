import type { BundleClock } from "../api";
import { murmur3 } from "../coders/key";
import { type PanePlan, planPanes } from "../engine/pane-plan";
import type { SideInput } from "../engine/side-inputs";
import { firesOnceAtTheEnd } from "../engine/windowing";
import { type Assignment, assigner } from "../engine/windows";
import type { FollowedZnode } from "../followed-znode";
import { type Consumer, consumersOf, type FusedStage } from "../graph/fusion";
import {
  type Graph,
  type GraphNode,
  hasSides,
  isGrouping,
  isShuffle,
  type KeyedAggregates,
} from "../graph/node";
import { znodeParams } from "../znode-param";
import { asyncOperator } from "./async";
import { batchOperator } from "./batches";
import { Place, type Reach } from "./context";
import { flatMapOperator, mapOperator, type Operator, ParDoOperator, splitOperator } from "./elementwise";
import { GatherOperator } from "./gather";
import type { Origins } from "./origin";
import {
  type BundleOutputs,
  parkingOperator,
  shuffleOperator,
  sideOperator,
  sinkOperator,
  spreadingOperator,
} from "./outputs";
import { KeyedPrecombineOperator, PrecombineOperator } from "./precombine";
import { fanOut, type Receiver } from "./receiver";
import { sideInputsOf } from "./side-inputs";
import { KeyingOperator, planStateful } from "./stateful";
import type { StatefulPlan } from "./stateful-code";
import { UserCode } from "./user-code";
import { AssignTimestampsOperator, WindowIntoOperator } from "./windowing";

/** The operators of a stage for one bundle, wired from the root's output to shuffles and sinks. */
export interface StageOperators {
  readonly first: Receiver;
  /** In the order in which data flows. */
  readonly operators: readonly Operator[];
}

/** What wiring needs to know of a stage, worked out once. */
export interface StagePlan {
  readonly pipeline: string;
  readonly stage: FusedStage;
  readonly consumers: ReturnType<typeof consumersOf>;
  /** The stage that begins at a shuffle. */
  readonly stageOfShuffle: ReadonlyMap<GraphNode, string>;
  /** Of the transforms that put elements into windows. */
  readonly assignments: ReadonlyMap<GraphNode, Assignment>;
  /** The znodes that context parameters look up. */
  readonly followed: ReadonlySet<FollowedZnode<unknown>>;
  /** Of transforms that do nothing but make pairs for a lifted combine. */
  readonly keyings: ReadonlyMap<GraphNode, Keying>;
  /** Groupings that the stage feeds whose windows each give one pane, at their end. */
  readonly gathered: ReadonlySet<GraphNode>;
  /** Of a stage that groups, where windows may give more than one pane. */
  readonly panes: PanePlan | undefined;
  /** Of a stage that begins with a transform with side inputs, or whose elements just pass. */
  readonly sides: readonly SideInput[] | undefined;
  /** Of a stage that begins with a stateful transform. */
  readonly stateful: StatefulPlan | undefined;
}

export function planStage(
  pipeline: string,
  stage: FusedStage,
  stageOfShuffle: ReadonlyMap<GraphNode, string>,
  windowing: Graph["windowing"],
): StagePlan {
  const { work } = stage.root;
  const consumers = consumersOf({ nodes: [...stage.nodes, ...stage.shuffles] });
  const input = isGrouping(work) ? windowing.get(stage.root.inputs[0]!) : undefined;
  return {
    stateful:
      work.kind === "stateful" ? planStateful(work.spec, windowing.get(stage.root.inputs[0]!)!) : undefined,
    panes: input === undefined || firesOnceAtTheEnd(input) ? undefined : planPanes(input),
    gathered: new Set(
      stage.shuffles.filter(
        ({ work, inputs }) => work.kind === "groupByKey" && firesOnceAtTheEnd(windowing.get(inputs[0]!)!),
      ),
    ),
    sides: sideInputsOf(stage, windowing),
    assignments: assignmentsOf(stage.nodes),
    followed: new Set([stage.root, ...stage.nodes].flatMap(followedByParams)),
    pipeline,
    stage,
    consumers,
    keyings: keyingsOf(stage.nodes, consumers),
    stageOfShuffle,
  };
}

function assignmentsOf(nodes: readonly GraphNode[]): Map<GraphNode, Assignment> {
  const assignments = new Map<GraphNode, Assignment>();
  for (const node of nodes)
    if (node.work.kind === "windowInto") assignments.set(node, assigner(node.work.windowing.windowFn));
  return assignments;
}

/** Pairs that a lifted combine alone gets. */
interface Keying {
  readonly keyed: KeyedAggregates;
  readonly combine: GraphNode;
}

function keyingsOf(nodes: readonly GraphNode[], consumers: StagePlan["consumers"]): Map<GraphNode, Keying> {
  const keyings = new Map<GraphNode, Keying>();
  for (const node of nodes) {
    const keyed = node.work.kind === "map" ? node.work.keyed : undefined;
    const combine = keyed && onlyReader(node, consumers);
    if (
      combine?.work.kind === "combine" &&
      combine.work.isLifted &&
      combine.work.combineFn === keyed?.combineFn
    )
      keyings.set(node, { keyed, combine });
  }
  return keyings;
}

/** The one transform that reads a transform's output, whatever passes it on unchanged. */
function onlyReader({ outputs }: GraphNode, consumers: StagePlan["consumers"]): GraphNode | undefined {
  const readers = Object.values(outputs).flatMap((collection) => consumers.get(collection) ?? []);
  if (readers.length !== 1) return undefined;
  const { node } = readers[0]!;
  return node.work.kind === "identity" ? onlyReader(node, consumers) : node;
}

function followedByParams({ work }: GraphNode): FollowedZnode<unknown>[] {
  return "context" in work ? znodeParams(work.context).map(({ followed }) => followed) : [];
}

/** What the operators of a bundle share. */
export interface Surroundings extends Reach {
  readonly outputs: BundleOutputs;
  readonly origins: Origins;
  readonly clock: BundleClock | undefined;
}

export function wireStage(plan: StagePlan, surroundings: Surroundings): StageOperators {
  const wiring = new Wiring(plan, surroundings);
  const first = wiring.first(plan.stage.root);
  return { first, operators: wiring.operators.reverse() };
}

class Wiring {
  /** Consumers come before producers, since each operator is made with its receiver. */
  readonly operators: Operator[] = [];
  private readonly receivers = new Map<GraphNode, Receiver>();
  private readonly outputs: BundleOutputs;

  constructor(
    private readonly plan: StagePlan,
    private readonly surroundings: Surroundings,
  ) {
    this.outputs = surroundings.outputs;
  }

  /** What takes in the elements of the stage: the root's consumers, or the root where it has user code of its own. */
  first(root: GraphNode): Receiver {
    if (!hasSides(root)) return this.next(root);
    const operator = this.make(root);
    this.operators.push(operator);
    return operator;
  }

  private receiverOf(collection: string): Receiver {
    return fanOut((this.plan.consumers.get(collection) ?? []).map((consumer) => this.consume(consumer)));
  }

  private consume({ node, side }: Consumer): Receiver {
    if (side === undefined) return this.operator(node);
    return sideOperator(this.plan.stageOfShuffle.get(node)!, side, this.outputs);
  }

  /** One operator for each transform, however many ways lead to it within the stage. */
  private operator(node: GraphNode): Receiver {
    const known = this.receivers.get(node);
    if (known !== undefined) return known;
    const operator = isShuffle(node) ? this.shuffle(node) : this.make(node);
    this.operators.push(operator);
    this.receivers.set(node, operator);
    return operator;
  }

  /** The end of this stage and the beginning of another. */
  private shuffle(node: GraphNode): Operator {
    const code = new UserCode(this.plan.pipeline, node.name);
    const stage = this.plan.stageOfShuffle.get(node)!;
    if (node.work.kind === "combine" && node.work.isLifted)
      return new PrecombineOperator(node.work.combineFn, stage, code, this.outputs, node.coders?.key);
    if (this.plan.gathered.has(node)) return new GatherOperator(stage, code, this.outputs, node.coders);
    if (isGrouping(node.work))
      return shuffleOperator(stage, code, this.outputs, node.work.kind === "view", node.coders);
    if (node.work.kind === "splittable") return spreadingOperator(stage, code, this.outputs, () => 0);
    if (node.work.kind === "reshuffle")
      return spreadingOperator(stage, code, this.outputs, murmur3, node.coders?.value);
    if (node.work.kind === "stateful") {
      const { keyOf } = node.work.spec;
      return keyOf === undefined
        ? shuffleOperator(stage, code, this.outputs, false, undefined)
        : new KeyingOperator(stage, keyOf, code, this.outputs);
    }
    return parkingOperator(stage, code, this.outputs);
  }

  private make(node: GraphNode): Operator {
    const { work } = node;
    const code = new UserCode(this.plan.pipeline, node.name);
    const place = new Place(code.transform, this.surroundings);
    switch (work.kind) {
      case "map":
        return (
          this.keyedPrecombine(node, code) ?? mapOperator(work.fn, work.context, code, place, this.next(node))
        );
      case "flatMap":
        return flatMapOperator(work.fn, work.context, code, place, this.next(node));
      case "parDo":
        return new ParDoOperator(work.doFn, work.context, code, place, this.next(node));
      case "async":
        return asyncOperator(work.fn, work.context, code, place, this.surroundings, this.next(node));
      case "batch":
        return batchOperator(work.settings, this.next(node));
      case "split":
        return splitOperator(work.options, code, this.byTag(node));
      case "assignTimestamps":
        return new AssignTimestampsOperator(work.fn, code, this.next(node));
      case "windowInto":
        return new WindowIntoOperator(this.plan.assignments.get(node)!, code, this.next(node));
      case "write":
        return sinkOperator(work.spec, code, this.outputs);
      default:
        return this.next(node);
    }
  }

  private keyedPrecombine(node: GraphNode, code: UserCode): Operator | undefined {
    const { pipeline, keyings, stageOfShuffle } = this.plan;
    const keying = keyings.get(node);
    if (keying === undefined) return undefined;
    const { keyed, combine } = keying;
    const combining = new UserCode(pipeline, combine.name);
    return new KeyedPrecombineOperator(keyed, code, stageOfShuffle.get(combine)!, combining, this.outputs);
  }

  private next(node: GraphNode): Receiver {
    return fanOut(Object.values(node.outputs).map((collection) => this.receiverOf(collection)));
  }

  private byTag(node: GraphNode): Record<string, Receiver> {
    return Object.fromEntries(
      Object.entries(node.outputs).map(([tag, collection]) => [tag, this.receiverOf(collection)]),
    );
  }
}
