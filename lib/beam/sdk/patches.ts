import "../../register";
// apache-beam comes first: its modules import each other in a circle.
import { type KV, P, PCollection, parDo, Root } from "apache-beam";

import { GeneralObjectCoder } from "apache-beam/coders/js_coders";
import { KVCoder } from "apache-beam/coders/required_coders";
import type { Pipeline } from "apache-beam/internal/pipeline";
import * as runnerApi from "apache-beam/proto/beam_runner_api";

import grouping = require("apache-beam/transforms/group_and_combine");
import creation = require("apache-beam/transforms/create");
import pardo = require("apache-beam/transforms/pardo");
import naming = require("apache-beam/transforms/transform");
import windowing = require("apache-beam/transforms/window");
import internal = require("apache-beam/transforms/internal");
import reshuffling = require("apache-beam/transforms/utils");
import operators = require("apache-beam/worker/operators");

import { elementCoder } from "../graph/element-coders";

import { type Combining, combine, ofOperator } from "./combining";
import { isBuilding } from "./function-registry";
import { explicitName, markForwarding, markKind, markNamed, unforwarded } from "./names";
import { CallableTransform } from "./pipeline-builder";
import { fastReading, markReading } from "./property-reading";

/**
 * Mends the SDK's construction in place, whatever was imported first: `import * as beam` looks exports up at each
 * use, so replacing them on the modules that define them reaches code that was loaded before. Pipelines that the
 * SDK's own runners build are left as they were, except that they no longer fail over the length of a closure.
 */
type AnyFunction = (...args: never[]) => unknown;

/** Beam's own, which the SDK writes as a grouping. */
export const RESHUFFLE_URN = "beam:transform:reshuffle:v1";

/** A `map` or `flatMap`, to be run without the SDK's generator around it. */
export class ElementwiseFn {
  constructor(
    readonly kind: "map" | "flatMap",
    readonly fn: (element: unknown, context?: unknown) => unknown,
  ) {}

  /** What `parDo` asks for; the operators call `fn` itself. */
  process(): Iterable<never> {
    return [];
  }
}

export function installPatches(): void {
  patchApply(Root.prototype);
  patchApply(PCollection.prototype);
  patchApply(Object.getPrototypeOf(P([])));
  patchElementwise("map");
  patchElementwise("flatMap");
  patchNaming();
  patchGrouping();
  patchCombining();
  patchReshuffle();
}

/** A function applied as a transform needs no name. */
function patchApply(prototype: object): void {
  replace(
    prototype,
    "apply",
    (original) =>
      function (this: unknown, transform: unknown, ...rest: unknown[]) {
        const named =
          isBuilding() && typeof transform === "function"
            ? new CallableTransform(transform as never)
            : transform;
        return Reflect.apply(original, this, [named, ...rest]);
      },
  );
}

function patchElementwise(kind: "map" | "flatMap"): void {
  replace(
    PCollection.prototype,
    kind,
    (original) =>
      function (this: PCollection<unknown>, fn: ElementwiseFn["fn"], context?: object) {
        if (!isBuilding()) return Reflect.apply(original, this, [fn, context]);
        if (typeof fn !== "function")
          throw new TypeError(`${kind} was given ${typeof fn} instead of a function`);
        const bound = pardo.extractContext(fn) as object | undefined;
        const name = explicitName(fn);
        const transform = parDo(
          new ElementwiseFn(kind, fn),
          bound === undefined ? context : { ...bound, ...context },
        );
        return this.apply(
          new CallableTransform(transform as never, name === undefined ? kind : `${kind}[${name}]`) as never,
        );
      },
  );
}

function patchNaming(): void {
  replace(naming, "withName", (original) => (name: unknown, target: object) => {
    markNamed(target);
    return Reflect.apply(original, undefined, [name, target]);
  });
  replace(
    creation,
    "create",
    (original) =>
      (...args: unknown[]) =>
        markKind(Reflect.apply(original, undefined, args) as object, "create"),
  );
  replace(
    pardo,
    "partition",
    (original) =>
      (...args: unknown[]) =>
        markKind(Reflect.apply(original, undefined, args) as object, "partition"),
  );
  for (const [module, name] of [
    [grouping, "groupBy"],
    [grouping, "coGroupBy"],
    [windowing, "assignTimestamps"],
  ] as const) {
    replace(
      module,
      name,
      (original) =>
        (fn: unknown, ...rest: unknown[]) =>
          Reflect.apply(original, undefined, [nameable(fn), ...rest]),
    );
  }
  replace(grouping, "groupBy", (original) => (key: unknown, ...rest: unknown[]) => {
    const grouped = Reflect.apply(original, undefined, [key, ...rest]) as { keyFn: unknown };
    markReading(grouped.keyFn, key);
    return grouped;
  });
}

function patchGrouping(): void {
  for (const [type, kind] of [
    [grouping.GroupBy, "groupBy"],
    [grouping.GroupGlobally, "groupGlobally"],
  ] as const) {
    replace(
      type.prototype,
      "combining",
      (original) =>
        function (this: { beamName: unknown }, ...args: unknown[]) {
          // It hands its own name on, which is the class's where none was given.
          if (this.beamName === type.name) this.beamName = kind;
          return Reflect.apply(original, this, args);
        },
    );
  }
  const combined = new grouping.GroupBy("").combining("", first, "");
  replace(
    Object.getPrototypeOf(combined),
    "combining",
    (original) =>
      function (this: unknown, expr: unknown, combiner: unknown, ...rest: unknown[]) {
        const given =
          isBuilding() && typeof combiner === "function" ? ofOperator(combiner as never) : combiner;
        const combining = Reflect.apply(original, this, [expr, given, ...rest]) as unknown as Combining;
        markReading(combining.combiners.at(-1)!.expr, expr);
        return combining;
      },
  );
  replace(
    Object.getPrototypeOf(combined),
    "expand",
    (original) =>
      function (this: Combining, input: PCollection<unknown>) {
        return isBuilding() ? combine(this, input) : Reflect.apply(original, this, [input]);
      },
  );
  // The SDK's own forgets the coder of the elements, which are the values of the groups.
  replace(
    grouping.GroupBy.prototype,
    "expand",
    (original) =>
      function (this: { keyFn: (element: unknown) => unknown }, input: PCollection<unknown>) {
        if (!isBuilding()) return Reflect.apply(original, this, [input]);
        const keyOf = fastReading(unforwarded(this.keyFn));
        const keyed = input.map((value) => ({ key: keyOf(value), value }));
        const { components } = input.pipeline.getProto();
        const { coderId } = components!.pcollections[input.getId()]!;
        if (elementCoder(input.pipeline, coderId) === undefined) return keyed.apply(internal.groupByKey());
        const values = input.pipeline.getCoder<unknown>(coderId);
        const coder = new KVCoder(new GeneralObjectCoder(), values);
        const coded: PCollection<KV<unknown, unknown>> = keyed.apply(internal.withCoderInternal(coder));
        return coded.apply(internal.groupByKey());
      },
  );
  // The SDK's own takes `kv[1]` of an object and so gives undefined for every group.
  replace(
    grouping.GroupGlobally.prototype,
    "expand",
    () => (input: PCollection<unknown>) =>
      input
        .apply(new grouping.GroupBy<unknown, null>(() => null))
        .map((group: { value: Iterable<unknown> }) => group.value),
  );
}

/** The SDK's own makes a combine a grouping of all values where its worker could not lift it; lifting is our affair. */
function patchCombining(): void {
  const { CombinePerKeyPrecombineOperator: operator } = operators;
  replace(
    operator,
    "checkSupportsWindowing",
    (original) =>
      (...args: unknown[]) =>
        isBuilding() || Reflect.apply(original, operator, args),
  );
}

/** The SDK's own groups by a random key, so that elements wait for the end of their window and lose their time. */
function patchReshuffle(): void {
  replace(reshuffling, "reshuffle", (original) => () => {
    const grouped = Reflect.apply(original, undefined, []) as (input: unknown) => unknown;
    const reshuffle = (input: PCollection<unknown>, pipeline: Pipeline, proto: runnerApi.PTransform) => {
      if (!isBuilding()) return grouped(input);
      proto.spec = runnerApi.FunctionSpec.create({ urn: RESHUFFLE_URN });
      const { coderId } = pipeline.getProto().components!.pcollections[input.getId()]!;
      return pipeline.createPCollectionInternal(coderId);
    };
    return markKind(reshuffle, "reshuffle");
  });
}

function first<T>(value: T): T {
  return value;
}

/** The SDK names a transform by its function's text and throws where that has 60 characters or more. */
function nameable(fn: unknown): unknown {
  if (typeof fn !== "function" || explicitName(fn) !== undefined) return fn;
  // Two arguments are the most that the SDK gives any of them.
  const forward = (first: unknown, second: unknown) => fn(first, second);
  // Where the SDK's own runners serialise it, they find what it captures here.
  return markForwarding(Object.assign(forward, { beamName: "function", __closure: () => ({ fn }) }), fn);
}

function replace(target: object, name: string, by: (original: AnyFunction) => AnyFunction | object): void {
  const slot = target as Record<string, AnyFunction>;
  slot[name] = by(slot[name]!) as AnyFunction;
}

installPatches();
