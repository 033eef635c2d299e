import "./sdk/patches";
import { Root } from "apache-beam";
import { readSchedule, type Schedule, type ScheduleOptions } from "../schedule/schedule";
import type { CompiledPipeline, CompiledSource, CompiledStage } from "./api";
import { BuildError, PipelineDefinitionError, UnsupportedPipelineError } from "./errors";
import { type FailureOptions, type FailurePolicy, failurePolicy } from "./failure-policy";
import { readGraph } from "./graph/check";
import { describeGraph } from "./graph/description";
import { fanOutCombines } from "./graph/fan-out";
import { fingerprint } from "./graph/fingerprint";
import { type FusedStage, fuse } from "./graph/fusion";
import { liftCombines } from "./graph/lifting";
import { type Graph, type GraphNode, hasSides, isShuffle } from "./graph/node";
import { followedBy, Lifecycle } from "./lifecycle";
import { planStage, type StagePlan } from "./operators/stage-operators";
import { elementText, isThenable } from "./operators/user-code";
import { withRegistry } from "./sdk/function-registry";
import { PipelineBuilder } from "./sdk/pipeline-builder";
import { loadStageShard } from "./stage-shard";

export interface PipelineOptions {
  /** Names the pipeline's znodes: letters, digits, `-`, `_` and `.`, at most 100, beginning with a letter or digit. */
  readonly name: string;
  /** Applies transforms to the root. Called once for each process; it must be synchronous and always build the same. */
  readonly build: (root: Root) => unknown;
  /** Shards of every stage, or of single stages by their id. Default: 1. */
  readonly shards?: number | Readonly<Record<string, number>>;
  /** What happens to what the pipeline's functions fail on. May be changed while the pipeline lives. */
  readonly failures?: FailureOptions;
  /** Writes to ZooKeeper a second that the pipeline may make, at least 4. Default: the setting. */
  readonly writesPerSecond?: number;
  /** When a bounded pipeline runs. Default: when `beamkeeper runs start` says so. May be changed. */
  readonly schedule?: ScheduleOptions;
}

export interface PipelineDefinition {
  readonly name: string;
  readonly build: (root: Root) => unknown;
  readonly shards: number | Readonly<Record<string, number>>;
  readonly failures?: FailurePolicy;
  readonly writesPerSecond?: number;
  readonly schedule?: Schedule;
}

const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/;

/** With less, a pipeline could not even move its watermarks on. */
const MIN_WRITES_PER_SECOND = 4;

/** More shards than this are a mistake: each is a znode, an inbox and an invocation. */
const MAX_SHARDS = 1024;

/**
 * Defines a pipeline: the default export of a file in `pipelines/`. Nothing is built yet.
 *
 * @throws PipelineDefinitionError if an option is missing or has the wrong form.
 */
export function definePipeline(options: PipelineOptions | PipelineDefinition): PipelineDefinition {
  if (typeof options !== "object" || options === null) {
    throw new PipelineDefinitionError("definePipeline needs an object: { name, build: (root) => { ... } }");
  }
  const { name, build, shards = 1, writesPerSecond } = options;
  if (typeof name !== "string" || !NAME.test(name)) {
    throw new PipelineDefinitionError(
      `the name of a pipeline must be 1 to 100 letters, digits, "-", "_" or ".", beginning with a letter or digit; ` +
        `it is ${elementText(name)}`,
    );
  }
  if (typeof build !== "function") {
    throw new PipelineDefinitionError(
      `pipeline "${name}": build must be a function of the root; it is ${elementText(build)}`,
    );
  }
  checkShards(name, shards);
  if (writesPerSecond !== undefined && !(writesPerSecond >= MIN_WRITES_PER_SECOND))
    throw new PipelineDefinitionError(
      `pipeline "${name}": writesPerSecond must be a number from ${MIN_WRITES_PER_SECOND} on; it is ${elementText(writesPerSecond)}`,
    );
  const budget = writesPerSecond === undefined ? {} : { writesPerSecond };
  const failures = failurePolicy(name, options.failures);
  return Object.freeze({ name, build, shards, failures, ...budget, ...scheduleOf(name, options.schedule) });
}

/** Of what was defined before, too: a file's pipeline goes through `definePipeline` once more when it is loaded. */
function scheduleOf(name: string, options: ScheduleOptions | Schedule | undefined): { schedule?: Schedule } {
  if (options === undefined) return {};
  if (typeof options === "object" && "expression" in options) return { schedule: options };
  try {
    return { schedule: readSchedule(options) };
  } catch (error) {
    throw new PipelineDefinitionError(`pipeline "${name}": ${(error as Error).message}`);
  }
}

/**
 * Builds the pipeline with the SDK, checks it, fuses it into stages.
 *
 * @throws BuildError if `build` throws; UnsupportedPipelineError with every part that can't be run.
 */
export function compilePipeline(definition: PipelineDefinition): CompiledPipeline {
  const { name } = definition;
  const builder = runBuild(definition);
  const { graph: read, problems } = readGraph(builder);
  if (problems.length > 0) throw new UnsupportedPipelineError(name, problems);
  const graph = liftCombines(fanOutCombines(read));
  const stages = fuse(graph);
  const stageOfShuffle = new Map(stages.map((stage) => [stage.root, stage.id]));
  const plans = new Map(
    stages.map((stage) => [stage.id, planStage(name, stage, stageOfShuffle, graph.windowing)]),
  );
  const planOf = (stageId: string): StagePlan => {
    const plan = plans.get(stageId);
    if (plan !== undefined) return plan;
    throw new RangeError(
      `pipeline "${name}" has no stage "${stageId}"; it has ${[...plans.keys()].join(", ")}`,
    );
  };
  const lifecycle = new Lifecycle(name, stages, graph);
  return {
    name,
    shards: shardsOf(definition, stages),
    failures: failurePolicy(name, definition.failures),
    fingerprint: fingerprint(graph, stages),
    graph: describeGraph(graph, stages),
    sources: stages.filter((stage) => !isShuffle(stage.root)).map(toSource),
    sinks: graph.nodes.flatMap(({ name: transform, work }) =>
      work.kind === "write" ? [{ sink: work.spec.sink, transform, config: work.spec.config }] : [],
    ),
    followed: graph.nodes.flatMap((node) =>
      followedBy(node).map(({ path }) => ({ transform: node.name, path })),
    ),
    stages: stages.map((stage) => toStage(stage, stages, graph)),
    setUp: (stageId) => lifecycle.setUp(stageId),
    refresh: (stageId, read, report) => lifecycle.refresh(stageId, read, report),
    tearDown: () => lifecycle.tearDown(),
    finalize: (finalization) => lifecycle.finalize(finalization),
    openShard: (stageId) => loadStageShard(planOf(stageId)).open(undefined),
    loadShard: (stageId, spool) => loadStageShard(planOf(stageId), spool),
  };
}

function runBuild({ name, build }: PipelineDefinition): PipelineBuilder {
  const builder = new PipelineBuilder();
  let result: unknown;
  try {
    result = withRegistry(builder.registry, () => build(new Root(builder)));
  } catch (error) {
    throw new BuildError(name, error instanceof Error ? error.message : String(error), error);
  }
  if (isThenable(result)) {
    Promise.resolve(result).catch(() => {});
    throw new BuildError(name, "build returned a Promise; it must be synchronous");
  }
  return builder;
}

function toSource({ id, root: { work } }: FusedStage): CompiledSource {
  if (work.kind === "read") {
    const { kind, config, tuning } = work.spec;
    return { id, kind, config, ...(tuning === undefined ? {} : { tuning }), consumers: [id] };
  }
  return { id, kind: "impulse", config: undefined, consumers: [id] };
}

function toStage(stage: FusedStage, all: readonly FusedStage[], graph: Graph): CompiledStage {
  const feeding = all.filter((other) => other.shuffles.includes(stage.root));
  const aggregate = isShuffle(stage.root);
  const { work } = stage.root;
  const splitting = work.kind === "splittable" ? { phase: work.phase, source: work.source } : undefined;
  const members = new Set<GraphNode>([stage.root, ...stage.nodes]);
  return {
    id: stage.id,
    kind: splitting ? "splittable" : aggregate ? "aggregate" : "ordinary",
    ...(splitting ? { splitting } : {}),
    upstream: aggregate
      ? feeding.map(({ id }) => ({ type: "stage" as const, id }))
      : [{ type: "source" as const, id: stage.id }],
    downstream: all.filter((other) => stage.shuffles.includes(other.root)).map(({ id }) => id),
    hasSideInputs: aggregate && hasSides(stage.root),
    isKeyless: work.kind === "splittable" || work.kind === "reshuffle",
    transforms: graph.nodes.filter((node) => members.has(node)).map((node) => node.name),
  };
}

function checkShards(name: string, shards: unknown): void {
  const counts =
    typeof shards === "object" && shards !== null ? Object.entries(shards) : [["", shards] as const];
  for (const [stage, count] of counts) {
    if (Number.isInteger(count) && (count as number) >= 1 && (count as number) <= MAX_SHARDS) continue;
    const where = stage === "" ? "shards" : `shards of stage "${stage}"`;
    throw new PipelineDefinitionError(
      `pipeline "${name}": ${where} must be a whole number from 1 to ${MAX_SHARDS}; it is ${elementText(count)}`,
    );
  }
}

function shardsOf(
  { name, shards }: PipelineDefinition,
  stages: readonly FusedStage[],
): ReadonlyMap<string, number> {
  const ids = stages.map(({ id }) => id);
  if (typeof shards === "number") return new Map(ids.map((id) => [id, shards]));
  const unknown = Object.keys(shards).filter((id) => !ids.includes(id));
  if (unknown.length > 0) {
    throw new PipelineDefinitionError(
      `pipeline "${name}": shards names the stage "${unknown[0]}", which it does not have; its stages are ${ids.join(", ")}`,
    );
  }
  return new Map(ids.map((id) => [id, shards[id] ?? 1]));
}
