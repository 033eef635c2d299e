import { createHash } from "node:crypto";
import { canonicalBytes } from "../coders/value-coder";
import { finalizerKeys } from "../finalizer";
import type { FusedStage } from "./fusion";
import { type Graph, type GraphNode, hasSides, type Work } from "./node";
import { statefulSettings } from "./stateful";
import { windowFnSettings } from "./window-fn";
import { windowingSettings } from "./windowing-strategy";

/**
 * SHA-256 (hex) of what two builds must agree on to exchange elements and state: transforms and their order, how
 * they are connected, windowing, sources and sinks with their settings, stages. Free of function text, of names
 * that a minifier changes, and of the SDK's random ids.
 */
export function fingerprint(graph: Graph, stages: readonly FusedStage[]): string {
  const place = new Map<string, number>();
  for (const node of graph.nodes)
    for (const output of Object.values(node.outputs)) place.set(output, place.size);
  const description = {
    version: 1,
    nodes: graph.nodes.map((node) => ({
      name: node.name,
      work: describeWork(node.work),
      inputs: node.inputs.map((input) => place.get(input)),
      ...finalizersOf(node),
      ...(node.coders === undefined ? {} : { coders: [...node.coders.urns] }),
      ...(hasSides(node)
        ? { sides: Object.entries(node.sides).map(([tag, view]) => [tag, place.get(view)]) }
        : {}),
      outputs: Object.entries(node.outputs).map(([tag, id]) => [
        tag,
        place.get(id),
        windowingSettings(graph.windowing.get(id)!),
      ]),
    })),
    stages: stages.map((stage) => [stage.id, stage.nodes.map((node) => node.name)]),
  };
  return createHash("sha256").update(canonicalBytes(description)).digest("hex");
}

/** Tokens that wait for their finaliser know it by its name. */
function finalizersOf({ work }: GraphNode): { finalizers?: string[] } {
  const finalizers = "context" in work ? finalizerKeys(work.context) : [];
  return finalizers.length === 0 ? {} : { finalizers };
}

/** What two builds must agree on of one transform: plain data without functions. */
export function describeWork(work: Work): { readonly kind: string; readonly [setting: string]: unknown } {
  switch (work.kind) {
    case "read":
      return { kind: work.kind, source: work.spec.kind, config: work.spec.config };
    case "write":
      return { kind: work.kind, sink: work.spec.sink, config: work.spec.config };
    case "splittable":
      return {
        ...{ kind: work.kind, phase: work.phase, source: work.source.name, config: work.source.config },
        ...(work.source.unbounded ? { unbounded: true } : {}),
      };
    case "windowInto":
      return { kind: work.kind, windowFn: windowFnSettings(work.windowing.windowFn) };
    case "combine":
      return work.isLifted ? { kind: work.kind, lifted: true } : { kind: work.kind };
    case "stateful":
      return { kind: work.kind, ...statefulSettings(work.spec) };
    case "split":
      return { kind: work.kind, tags: [...work.options.knownTags] };
    case "async":
      return { kind: work.kind, gives: work.fn.kind };
    default:
      return { kind: work.kind };
  }
}
