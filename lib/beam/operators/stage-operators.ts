import { type PanePlan, planPanes } from "../engine/pane-plan";
import { firesOnceAtTheEnd } from "../engine/windowing";
import { consumersOf, type FusedStage } from "../graph/fusion";
import { type Graph, type GraphNode, isShuffle } from "../graph/node";
import { flatMapOperator, mapOperator, type Operator, parDoOperator, splitOperator } from "./elementwise";
import type { BundleMetrics } from "./metrics";
import { type BundleOutputs, shuffleOperator, sinkOperator } from "./outputs";
import { fanOut, type Receiver } from "./receiver";
import { UserCode } from "./user-code";
import { assignTimestampsOperator, windowIntoOperator } from "./windowing";

/** The operators of a stage for one bundle, wired from the root's output to shuffles and sinks. */
export interface StageOperators {
  readonly receive: Receiver;
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
  /** Of a stage that groups, where windows may give more than one pane. */
  readonly panes: PanePlan | undefined;
}

export function planStage(
  pipeline: string,
  stage: FusedStage,
  stageOfShuffle: ReadonlyMap<GraphNode, string>,
  windowing: Graph["windowing"],
): StagePlan {
  const input = isShuffle(stage.root.work) ? windowing.get(stage.root.inputs[0]!) : undefined;
  return {
    panes: input === undefined || firesOnceAtTheEnd(input) ? undefined : planPanes(input),
    pipeline,
    stage,
    consumers: consumersOf({ nodes: [...stage.nodes, ...stage.shuffles] }),
    stageOfShuffle,
  };
}

export function wireStage(plan: StagePlan, outputs: BundleOutputs, metrics: BundleMetrics): StageOperators {
  const wiring = new Wiring(plan, outputs, metrics);
  const receivers = Object.values(plan.stage.root.outputs).map((collection) => wiring.receiverOf(collection));
  return { receive: fanOut(receivers), operators: wiring.operators.reverse() };
}

class Wiring {
  /** Consumers come before producers, since each operator is made with its receiver. */
  readonly operators: Operator[] = [];
  private readonly receivers = new Map<GraphNode, Receiver>();

  constructor(
    private readonly plan: StagePlan,
    private readonly outputs: BundleOutputs,
    private readonly metrics: BundleMetrics,
  ) {}

  receiverOf(collection: string): Receiver {
    return fanOut((this.plan.consumers.get(collection) ?? []).map((node) => this.operator(node)));
  }

  /** One operator for each transform, however many ways lead to it within the stage. */
  private operator(node: GraphNode): Receiver {
    const known = this.receivers.get(node);
    if (known !== undefined) return known;
    const operator = this.make(node);
    this.operators.push(operator);
    this.receivers.set(node, operator.receive);
    return operator.receive;
  }

  private make(node: GraphNode): Operator {
    const { work } = node;
    const code = new UserCode(this.plan.pipeline, node.name);
    if (isShuffle(work)) return shuffleOperator(this.plan.stageOfShuffle.get(node)!, code, this.outputs);
    switch (work.kind) {
      case "map":
        return mapOperator(work.fn, work.context, code, this.metrics, this.next(node));
      case "flatMap":
        return flatMapOperator(work.fn, work.context, code, this.metrics, this.next(node));
      case "parDo":
        return parDoOperator(work.doFn, work.context, code, this.metrics, this.next(node));
      case "split":
        return splitOperator(work.options, code, this.byTag(node));
      case "assignTimestamps":
        return assignTimestampsOperator(work.fn, code, this.next(node));
      case "windowInto":
        return windowIntoOperator(work.windowing.windowFn, code, this.next(node));
      case "write":
        return sinkOperator(work.spec, code, this.outputs);
      default:
        return { receive: this.next(node) };
    }
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
