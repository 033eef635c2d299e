import { flattenPValue, type PValue } from "apache-beam";
import { Pipeline } from "apache-beam/internal/pipeline";
import * as runnerApi from "apache-beam/proto/beam_runner_api";
import { type AsyncPTransformClass, PTransformClass } from "apache-beam/transforms/transform";
import type { PipelineProblem } from "../errors";
import { FunctionRegistry, isFilling } from "./function-registry";
import { markNamed, transformName } from "./names";

const { BOUNDED, UNBOUNDED } = runnerApi.IsBounded_Enum;

/** The SDK's pipeline with names by position, and with what makes its construction throw turned into problems. */
export class PipelineBuilder extends Pipeline {
  readonly registry = new FunctionRegistry();
  readonly problems: PipelineProblem[] = [];
  private readonly used = new Set<string>();
  private readonly fanouts = new Map<string, number>();

  override preApplyTransform<I extends PValue<unknown>, O extends PValue<unknown>>(
    transform: AsyncPTransformClass<I, O>,
    input: I,
  ) {
    const inputs = Object.values(flattenPValue(input));
    if (!isFilling(this.registry) || inputs.some((collection) => collection.pipeline !== this)) {
      throw new Error(`${transformName(transform)} is applied to a PCollection of another pipeline`);
    }
    const named = new PTransformClass<I, O>(this.uniqueName(transformName(transform)));
    return super.preApplyTransform(named, input);
  }

  /** Combines within the transform of this name divide their keys. */
  fanOut(transform: string, fanout: number): void {
    this.fanouts.set(transform, fanout);
  }

  /** Of the innermost transform around a combine that has one. */
  fanoutOf(combine: string): number | undefined {
    for (let end = combine.length; end > 0; end = combine.lastIndexOf("/", end - 1)) {
      const fanout = this.fanouts.get(combine.slice(0, end));
      if (fanout !== undefined) return fanout;
    }
    return undefined;
  }

  override applyAsyncTransform(): Promise<never> {
    throw new Error(
      "applyAsync is not supported: build must be synchronous; use apply with a synchronous transform",
    );
  }

  override postApplyTransform<I extends PValue<unknown>, O extends PValue<unknown>>(
    transform: AsyncPTransformClass<I, O>,
    proto: runnerApi.PTransform,
    result: O,
  ): O {
    this.settleProperties(proto, result);
    return super.postApplyTransform(transform, proto, result);
  }

  /**
   * The SDK takes boundedness and windowing of an output from its inputs and throws "Unable to deduce single value"
   * where they differ, side inputs included. One unbounded input makes the output unbounded; a windowing that
   * differs is reported by the check of the graph, so here the first main input's will do.
   */
  private settleProperties(proto: runnerApi.PTransform, result: PValue<unknown>): void {
    const { pcollections } = this.getProto().components!;
    const main = Object.entries(proto.inputs).filter(([tag]) => !tag.startsWith("side."));
    const inputs = main.map(([, id]) => pcollections[id]!);
    if (inputs.length === 0) return;
    for (const output of Object.values(flattenPValue(result))) {
      const collection = pcollections[output.getId()]!;
      collection.isBounded ||= inputs.some((input) => input.isBounded === UNBOUNDED) ? UNBOUNDED : BOUNDED;
      collection.windowingStrategyId ||= inputs[0]!.windowingStrategyId;
    }
  }

  private uniqueName(name: string): string {
    const parent = this.transformStack.at(-1);
    const prefix =
      parent === undefined ? "" : `${this.getProto().components!.transforms[parent]!.uniqueName}/`;
    let unique = name;
    for (let i = 2; this.used.has(prefix + unique); i++) unique = `${name}-${i}`;
    this.used.add(prefix + unique);
    return unique;
  }
}

/** A transform from a function; its name is settled by `transformName`. */
export class CallableTransform<I extends PValue<unknown>, O extends PValue<unknown>> extends PTransformClass<
  I,
  O
> {
  constructor(
    private readonly callable: (input: I, pipeline: Pipeline, proto: runnerApi.PTransform) => O,
    name = transformName(callable),
  ) {
    super(name);
    markNamed(this);
  }

  override expandInternal(input: I, pipeline: Pipeline, proto: runnerApi.PTransform): O {
    return this.callable(input, pipeline, proto);
  }
}
