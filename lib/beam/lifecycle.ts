import type { CompiledPipeline } from "./api";
import type { Hooks } from "./async-fn";
import type { BeamError } from "./errors";
import type { ReadZnode } from "./followed-znode";
import type { FusedStage } from "./graph/fusion";
import type { Graph, GraphNode, Work } from "./graph/node";
import { finalize, finalizersOf } from "./operators/finalizations";
import { UserCode } from "./operators/user-code";
import { znodeParams } from "./znode-param";

/** What is called once for each process: set-up before the first bundle of a stage, tear-down at the end. */
export class Lifecycle implements Pick<CompiledPipeline, "setUp" | "refresh" | "tearDown" | "finalize"> {
  private readonly started = new Map<GraphNode, Promise<void>>();
  private readonly ready = new Set<GraphNode>();
  private readonly byStage: ReadonlyMap<string, readonly GraphNode[]>;
  private readonly followed: ReadonlyMap<string, readonly Following[]>;
  private readonly finalizers: ReturnType<typeof finalizersOf>;

  constructor(
    private readonly pipeline: string,
    stages: readonly FusedStage[],
    graph: Graph,
  ) {
    const withSetup = ({ root, nodes }: FusedStage) =>
      [root, ...nodes].filter(({ work }) => hooksOf(work).setup);
    this.byStage = new Map(stages.map((stage) => [stage.id, withSetup(stage)]));
    this.followed = new Map(stages.map((stage) => [stage.id, followedIn(stage)]));
    this.finalizers = finalizersOf(graph);
  }

  setUp(stageId: string): Promise<void> | undefined {
    const waiting = this.byStage.get(stageId)?.filter((node) => !this.ready.has(node)) ?? [];
    if (waiting.length === 0) return undefined;
    return Promise.all(waiting.map((node) => this.started.get(node) ?? this.start(node))).then(
      () => undefined,
    );
  }

  refresh(
    stageId: string,
    read: ReadZnode,
    report?: (problem: BeamError) => void,
  ): Promise<void> | undefined {
    const followed = this.followed.get(stageId) ?? [];
    if (followed.length === 0) return undefined;
    const reads = new Map(followed.map(({ znode: { path } }) => [path, read(path)]));
    const refreshing = followed.map(async ({ node, znode }) => {
      this.ready.add(node);
      const held = await reads.get(znode.path);
      const problem = await this.guard(node.name, () => znode.take(held));
      if (problem) report?.(new UserCode(this.pipeline, node.name).failureOutsideElements(problem));
    });
    return Promise.all(refreshing).then(() => undefined);
  }

  async tearDown(): Promise<void> {
    const nodes = [...this.ready];
    this.ready.clear();
    this.started.clear();
    for (const node of nodes) {
      await this.guard(node.name, () => hooksOf(node.work).teardown?.());
      for (const znode of followedBy(node)) await znode.close();
    }
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
    const starting = this.guard(node.name, async () => void (await hooksOf(node.work).setup!()));
    this.started.set(node, starting);
    starting.then(
      () => this.ready.add(node),
      () => this.started.delete(node),
    );
    return starting;
  }

  private async guard<T>(transform: string, run: () => T | Promise<T>): Promise<T> {
    try {
      return await run();
    } catch (error) {
      throw new UserCode(this.pipeline, transform).failureOutsideElements(error);
    }
  }
}

interface Following {
  readonly node: GraphNode;
  readonly znode: NonNullable<Hooks["follows"]>;
}

/** What the transforms of a stage follow. */
function followedIn({ root, nodes }: FusedStage): Following[] {
  return [root, ...nodes].flatMap((node) => followedBy(node).map((znode) => ({ node, znode })));
}

/** What a transform follows, each once. */
export function followedBy({ work }: GraphNode): Following["znode"][] {
  const params = "context" in work ? znodeParams(work.context).map(({ followed }) => followed) : [];
  const model = work.kind === "async" ? work.fn.hooks.follows : undefined;
  return [...new Set(model === undefined ? params : [...params, model])];
}

function hooksOf(work: Work): Pick<Hooks, "setup" | "teardown"> {
  if (work.kind === "async") return work.fn.hooks;
  if (work.kind !== "parDo" && work.kind !== "stateful") return {};
  const doFn = work.kind === "parDo" ? work.doFn : work.spec.doFn;
  return {
    ...(doFn.setup && { setup: () => doFn.setup!() }),
    ...(doFn.teardown && { teardown: () => doFn.teardown!() }),
  };
}
