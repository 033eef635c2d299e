import type { CompiledPipeline } from "./api";
import type { Hooks, ReadZnode } from "./async-fn";
import type { FusedStage } from "./graph/fusion";
import type { Graph, GraphNode, Work } from "./graph/node";
import { finalize, finalizersOf } from "./operators/finalizations";
import { UserCode } from "./operators/user-code";

/** What is called once for each process: set-up before the first bundle of a stage, tear-down at the end. */
export class Lifecycle implements Pick<CompiledPipeline, "setUp" | "refresh" | "tearDown" | "finalize"> {
  private readonly started = new Map<GraphNode, Promise<void>>();
  private readonly ready = new Set<GraphNode>();
  private readonly byStage: ReadonlyMap<string, readonly GraphNode[]>;
  private readonly refreshed: ReadonlyMap<string, readonly GraphNode[]>;
  private readonly finalizers: ReturnType<typeof finalizersOf>;

  constructor(
    private readonly pipeline: string,
    stages: readonly FusedStage[],
    graph: Graph,
  ) {
    const withSetup = ({ root, nodes }: FusedStage) =>
      [root, ...nodes].filter(({ work }) => hooksOf(work).setup);
    this.byStage = new Map(stages.map((stage) => [stage.id, withSetup(stage)]));
    const following = ({ root, nodes }: FusedStage) =>
      [root, ...nodes].filter(({ work }) => hooksOf(work).refresh);
    this.refreshed = new Map(stages.map((stage) => [stage.id, following(stage)]));
    this.finalizers = finalizersOf(graph);
  }

  setUp(stageId: string): Promise<void> | undefined {
    const waiting = this.byStage.get(stageId)?.filter((node) => !this.ready.has(node)) ?? [];
    if (waiting.length === 0) return undefined;
    return Promise.all(waiting.map((node) => this.started.get(node) ?? this.start(node))).then(
      () => undefined,
    );
  }

  refresh(stageId: string, read: ReadZnode): Promise<void> | undefined {
    const following = this.refreshed.get(stageId) ?? [];
    if (following.length === 0) return undefined;
    const refreshing = following.map((node) => {
      this.ready.add(node);
      return this.guard(node.name, () => hooksOf(node.work).refresh!(read));
    });
    return Promise.all(refreshing).then(() => undefined);
  }

  async tearDown(): Promise<void> {
    const nodes = [...this.ready];
    this.ready.clear();
    this.started.clear();
    for (const { name, work } of nodes) await this.guard(name, () => hooksOf(work).teardown?.());
  }

  async finalize({ finalizer, tokens }: Parameters<CompiledPipeline["finalize"]>[0]): Promise<void> {
    const known = this.finalizers.get(finalizer);
    if (known === undefined)
      throw new RangeError(
        `pipeline "${this.pipeline}" has no finaliser "${finalizer}"; it has other code now`,
      );
    await this.guard(finalizer, () => finalize(known, tokens));
  }

  private start(node: GraphNode): Promise<void> {
    const starting = this.guard(node.name, () => hooksOf(node.work).setup!());
    this.started.set(node, starting);
    starting.then(
      () => this.ready.add(node),
      () => this.started.delete(node),
    );
    return starting;
  }

  private async guard(transform: string, run: () => unknown): Promise<void> {
    try {
      await run();
    } catch (error) {
      throw new UserCode(this.pipeline, transform).failureOutsideElements(error);
    }
  }
}

function hooksOf(work: Work): Pick<Hooks, "setup" | "refresh" | "teardown"> {
  if (work.kind === "async") return work.fn.hooks;
  if (work.kind !== "parDo" && work.kind !== "stateful") return {};
  const doFn = work.kind === "parDo" ? work.doFn : work.spec.doFn;
  return {
    ...(doFn.setup && { setup: () => doFn.setup!() }),
    ...(doFn.teardown && { teardown: () => doFn.teardown!() }),
  };
}
