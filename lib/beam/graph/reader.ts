import type { WindowFn as SdkWindowFn, Window } from "apache-beam";
import * as runnerApi from "apache-beam/proto/beam_runner_api";
import { AsyncFn, BatchFn } from "../async-fn";
import type { WindowFn } from "../engine/windows";
import type { PipelineProblem } from "../errors";
import {
  OR_DEFAULT_URN,
  READ_URN,
  type SinkSpec,
  type SourceSpec,
  SPLITTABLE_URN,
  WRITE_URN,
} from "../primitives";
import { keyedAggregatesOf } from "../sdk/combining";
import { unforwarded } from "../sdk/names";
import { ElementwiseFn, RESHUFFLE_URN } from "../sdk/patches";
import type { PipelineBuilder } from "../sdk/pipeline-builder";
import { elementCoders, type GroupingCoders, groupingCoders } from "./element-coders";
import type { Graph, GraphNode, SplitOptions, Splitting, UserCombineFn, UserDoFn, Work } from "./node";
import { STATEFUL_URN, type StatefulSpec } from "./stateful";
import { toWindowFn } from "./window-fn";
import { toWindowing } from "./windowing-strategy";

const IMPULSE_URN = "beam:transform:impulse:v1";
const FLATTEN_URN = "beam:transform:flatten:v1";
const GROUP_BY_KEY_URN = "beam:transform:group_by_key:v1";
const COMBINE_URN = "beam:transform:combine_per_key:v1";
const PAR_DO_URN = "beam:transform:pardo:v1";
const ITERABLE_SIDE_INPUT_URN = "beam:side_input:iterable:v1";

type AnyDoFn = UserDoFn | ElementwiseFn | AsyncFn | BatchFn;

/** The SDK calls the input that a transform looks up as `x` `side.x`. */
const SIDE_PREFIX = "side.";

/** Reads the SDK's proto into a graph of primitives; what it can't read is added to `problems`. */
export class GraphReader {
  private readonly nodes: GraphNode[] = [];
  private readonly components: runnerApi.Components;

  constructor(
    private readonly builder: PipelineBuilder,
    private readonly problems: PipelineProblem[],
  ) {
    this.components = builder.getProto().components!;
  }

  read(): Pick<Graph, "nodes"> {
    const proto = this.builder.getProto();
    for (const requirement of proto.requirements) {
      this.problem(
        "the pipeline",
        `the requirement ${requirement} is not supported`,
        "Leave out what asks for it.",
      );
    }
    for (const id of proto.rootTransformIds) this.visit(id);
    return { nodes: this.nodes };
  }

  private visit(id: string): void {
    const proto = this.components.transforms[id]!;
    const urn = proto.spec?.urn ?? "";
    // A combine's expansion would collect lists, and a reshuffle's wait for the end of a window: they are run from their URNs.
    if (urn !== COMBINE_URN && urn !== RESHUFFLE_URN && proto.subtransforms.length > 0) {
      for (const child of proto.subtransforms) this.visit(child);
      return;
    }
    if (urn === "") return;
    const work = this.work(proto, urn, proto.spec!.payload);
    if (work === undefined) return;
    const inputs = Object.entries(proto.inputs);
    const isSide = (tag: string) => tag.startsWith(SIDE_PREFIX);
    const coders = this.coders(work, inputs[0]?.[1]);
    this.nodes.push({
      name: proto.uniqueName,
      work,
      ...(coders === undefined ? {} : { coders }),
      sides: Object.fromEntries(
        inputs
          .filter(([tag]) => isSide(tag))
          .map(([tag, collection]) => [tag, this.view(proto.uniqueName, tag, collection)]),
      ),
      inputs: inputs.filter(([tag]) => !isSide(tag)).map(([, collection]) => collection),
      outputs: proto.outputs,
    });
  }

  private coders({ kind }: Work, input: string | undefined): GroupingCoders | undefined {
    if (kind === "groupByKey" || kind === "combine") return groupingCoders(this.builder, input!);
    return kind === "reshuffle" ? elementCoders(this.builder, input!) : undefined;
  }

  /** What brings a side input together, for one transform that looks it up; the name of its output. */
  private view(transform: string, tag: string, collection: string): string {
    const name = `${transform}/${tag}`;
    const view = `view ${name}`;
    this.nodes.push({ name, work: { kind: "view" }, inputs: [collection], sides: {}, outputs: { view } });
    return view;
  }

  private work(proto: runnerApi.PTransform, urn: string, payload: Uint8Array): Work | undefined {
    switch (urn) {
      case IMPULSE_URN:
        return { kind: "impulse" };
      case READ_URN:
        return { kind: "read", spec: this.object<SourceSpec>(payload) };
      case WRITE_URN:
        return { kind: "write", spec: this.object<SinkSpec>(payload) };
      case SPLITTABLE_URN:
        return { kind: "splittable", ...this.object<Splitting>(payload) };
      case STATEFUL_URN:
        return this.stateful(payload);
      case FLATTEN_URN:
        return { kind: "flatten" };
      case OR_DEFAULT_URN:
        return { kind: "flatten", asFirst: true };
      case RESHUFFLE_URN:
        return { kind: "reshuffle" };
      case GROUP_BY_KEY_URN:
        return { kind: "groupByKey" };
      case COMBINE_URN:
        return this.combine(proto.uniqueName, payload);
      case PAR_DO_URN:
        return this.parDo(proto, runnerApi.ParDoPayload.fromBinary(payload));
      default:
        return this.problem(
          proto.uniqueName,
          `transforms with the URN ${urn} are not supported`,
          "Write it with ParDo.",
        );
    }
  }

  private stateful(payload: Uint8Array): Work {
    const spec = this.object<StatefulSpec>(payload);
    return { kind: "stateful", spec, context: spec.doFn.params };
  }

  private combine(name: string, payload: Uint8Array): Work {
    const { combineFn } = runnerApi.CombinePayload.fromBinary(payload);
    return {
      kind: "combine",
      isLifted: false,
      fanout: this.builder.fanoutOf(name),
      ...this.object<{ combineFn: UserCombineFn }>(combineFn!.payload),
    };
  }

  private parDo(proto: runnerApi.PTransform, payload: runnerApi.ParDoPayload): Work | undefined {
    const name = proto.uniqueName;
    for (const [what, remedy] of unsupportedParts(payload)) this.problem(name, what, remedy);
    const { urn, payload: fn } = payload.doFn!;
    switch (urn) {
      case "beam:dofn:identity:0.1":
        return { kind: "identity" };
      case "beam:dofn:serialized_js_dofn_info:v1":
        return this.doFn(name, this.object<{ doFn: AnyDoFn; context: unknown }>(fn));
      case "beam:dofn:splitting_dofn:v1":
        return { kind: "split", options: this.object<SplitOptions>(fn) };
      case "beam:dofn:js_assign_timestamps:v1":
        return {
          kind: "assignTimestamps",
          fn: unforwarded(this.object<{ func: (e: unknown, t: unknown) => unknown }>(fn).func),
        };
      case "beam:dofn:js_window_into:v1":
        return this.windowInto(proto, this.object<{ windowFn: SdkWindowFn<Window> }>(fn).windowFn);
      default:
        return this.problem(name, `DoFns with the URN ${urn} are not supported`, "Write it with parDo.");
    }
  }

  private doFn(name: string, { doFn, context }: { doFn: AnyDoFn; context: unknown }): Work | undefined {
    if (doFn instanceof AsyncFn) return { kind: "async", fn: doFn, context };
    if (doFn instanceof BatchFn) return { kind: "batch", settings: doFn.settings };
    if (doFn instanceof ElementwiseFn) {
      if (isAsyncFunction(doFn.fn)) this.problem(name, "its function is async", `Use ${doFn.kind}Async.`);
      return { kind: doFn.kind, fn: doFn.fn, context, keyed: keyedAggregatesOf(doFn.fn) };
    }
    if (typeof doFn?.process !== "function") {
      return this.problem(
        name,
        "its DoFn has no function `process`",
        "Give parDo an object with process(element).",
      );
    }
    for (const hook of ["process", "startBundle", "finishBundle"] as const)
      if (isAsyncFunction(doFn[hook])) this.problem(name, `its ${hook} is async`, "Use parDoAsync.");
    return { kind: "parDo", doFn, context };
  }

  private windowInto(proto: runnerApi.PTransform, sdk: SdkWindowFn<Window>): Work | undefined {
    const name = proto.uniqueName;
    const [output] = Object.values(proto.outputs);
    const strategy =
      this.components.windowingStrategies[this.components.pcollections[output!]!.windowingStrategyId]!;
    const windowFn = toWindowFn(sdk);
    const problems: string[] = [];
    const known: WindowFn = typeof windowFn === "string" ? { kind: "global" } : windowFn;
    const windowing = toWindowing(strategy, known, problems);
    if (typeof windowFn === "string") {
      this.problem(name, windowFn, "Use the window functions that Beamkeeper exports.");
    }
    for (const what of problems) this.problem(name, what, "Use windowingStrategy(...) to make the strategy.");
    return { kind: "windowInto", windowing };
  }

  private object<T>(payload: Uint8Array): T {
    return this.builder.registry.fromPayload(payload) as T;
  }

  private problem(transform: string, what: string, remedy: string): undefined {
    this.problems.push({ transform, what, remedy });
  }
}

/** Of what a compiler has left async; any other function that gives a Promise is refused when it does. */
function isAsyncFunction(fn: unknown): boolean {
  return /^\[object Async/.test(Object.prototype.toString.call(fn));
}

/** Parts of a ParDo that ask for more than processing elements: what, and what to do. */
function unsupportedParts(payload: runnerApi.ParDoPayload): [string, string][] {
  const parts: [boolean, string, string][] = [
    ...Object.values(payload.sideInputs).map(({ accessPattern }): [boolean, string, string] => [
      accessPattern?.urn !== ITERABLE_SIDE_INPUT_URN,
      `side inputs with the access pattern ${accessPattern?.urn} are not supported`,
      "Use iterableSideInput or singletonSideInput.",
    ]),
    [
      Object.keys(payload.stateSpecs).length > 0,
      "state in the proto of another SDK is not supported",
      "Use statefulParDo.",
    ],
    [
      Object.keys(payload.timerFamilySpecs).length > 0,
      "timers in the proto of another SDK are not supported",
      "Use statefulParDo.",
    ],
    [
      payload.restrictionCoderId !== "",
      "splittable DoFns are not supported",
      "Use a DoFn that emits all at once.",
    ],
    [payload.requestsFinalization, "bundle finalisation is not supported", "Write results with a sink."],
    [
      payload.requiresTimeSortedInput,
      "time-sorted input in the proto of another SDK is not supported",
      "Use requiresTimeSortedInput of statefulParDo.",
    ],
    [payload.requiresStableInput, "stable input is not supported", "Leave it out: commits are atomic here."],
  ];
  return parts.filter(([present]) => present).map(([, what, remedy]) => [what, remedy]);
}
