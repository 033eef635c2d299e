import "./sdk/patches";
import type { PCollection, PTransform, Root } from "apache-beam";
import { GeneralObjectCoder } from "apache-beam/coders/js_coders";
import type { Pipeline } from "apache-beam/internal/pipeline";
import { serializeFn } from "apache-beam/internal/serialize";
import * as runnerApi from "apache-beam/proto/beam_runner_api";
import type { BoundedWindow, Pane, SourceKind } from "./api";
import { readsWithoutEnd, type Splitting } from "./graph/node";
import { isBuilding } from "./sdk/function-registry";
import { CallableTransform } from "./sdk/pipeline-builder";

/** Sources and sinks of `lib/io` are primitives with URNs of their own; what they mean is the runner's business. */
export const READ_URN = "beamkeeper:transform:read:v1";
export const WRITE_URN = "beamkeeper:transform:write:v1";
export const SPLITTABLE_URN = "beamkeeper:transform:splittable:v1";
export const OR_DEFAULT_URN = "beamkeeper:transform:or_default:v1";

/** What a source is made with. `config` is plain data: it is part of the graph's fingerprint. */
export interface SourceSpec {
  readonly kind: SourceKind;
  readonly config: unknown;
  /** How it is read, as plain data; another build may have other settings, so it is not part of the fingerprint. */
  readonly tuning?: unknown;
  readonly bounded: boolean;
}

/** What a sink is made with. `toPayload` runs for each element; `config` is part of the graph's fingerprint. */
export interface SinkSpec {
  readonly sink: string;
  readonly config: unknown;
  /** What this sink writes to alone: no other sink of the pipeline may claim the same. A text for messages. */
  readonly claim?: string;
  toPayload(element: never, place: SinkPlace): unknown;
}

/** Where the element of a sink stands: its event time in milliseconds, its window and its pane. */
export interface SinkPlace {
  readonly timestampMs: number;
  readonly window: BoundedWindow;
  readonly pane: Pane;
}

/** A source: applied to the root it gives the elements that the runner reads for it. */
export function readPrimitive<T>(name: string, spec: SourceSpec): PTransform<Root, PCollection<T>> {
  const bounded = spec.bounded ? runnerApi.IsBounded_Enum.BOUNDED : runnerApi.IsBounded_Enum.UNBOUNDED;
  return new CallableTransform((_root: Root, pipeline: Pipeline, proto: runnerApi.PTransform) => {
    proto.spec = specOf(READ_URN, spec, name);
    return pipeline.createPCollectionInternal<T>(new GeneralObjectCoder(), undefined, bounded);
  }, name);
}

/** A sink: each element becomes a `SinkEffect` of the bundle. */
export function writePrimitive<T>(name: string, spec: SinkSpec): PTransform<PCollection<T>, void> {
  return new CallableTransform(
    (_input: PCollection<T>, _pipeline: Pipeline, proto: runnerApi.PTransform): void => {
      proto.spec = specOf(WRITE_URN, spec, name);
    },
    name,
  );
}

/** One of the two halves of a splittable read: each is the beginning of a stage, whose inbox holds its input. */
export function splittablePrimitive<I, O>(
  name: string,
  splitting: Splitting,
): PTransform<PCollection<I>, PCollection<O>> {
  return new CallableTransform(
    (_input: PCollection<I>, pipeline: Pipeline, proto: runnerApi.PTransform): PCollection<O> => {
      proto.spec = specOf(SPLITTABLE_URN, splitting, name);
      // Undefined: as its input.
      const bounded = readsWithoutEnd(splitting) ? runnerApi.IsBounded_Enum.UNBOUNDED : undefined;
      return pipeline.createPCollectionInternal<O>(new GeneralObjectCoder(), undefined, bounded);
    },
    name,
  );
}

/** A collection with what comes in its place, as one that has the windowing of the first. */
export function orDefaultPrimitive<T>(): PTransform<PCollection<T>[], PCollection<T>> {
  return new CallableTransform(
    (_inputs: PCollection<T>[], pipeline: Pipeline, proto: runnerApi.PTransform): PCollection<T> => {
      proto.spec = runnerApi.FunctionSpec.create({ urn: OR_DEFAULT_URN });
      return pipeline.createPCollectionInternal<T>(new GeneralObjectCoder());
    },
    "orDefault",
  );
}

function specOf(urn: string, spec: object, name: string): runnerApi.FunctionSpec {
  if (!isBuilding())
    throw new Error(`${name} runs on Beamkeeper only; put it into the build of a definePipeline`);
  return runnerApi.FunctionSpec.create({ urn, payload: serializeFn(spec) });
}
