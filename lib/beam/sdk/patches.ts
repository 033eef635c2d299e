import "../../register";
// apache-beam comes first: its modules import each other in a circle.
import { type KV, P, PCollection, parDo, Root } from "apache-beam";

import { GeneralObjectCoder } from "apache-beam/coders/js_coders";
import { KVCoder } from "apache-beam/coders/required_coders";

import grouping = require("apache-beam/transforms/group_and_combine");
import creation = require("apache-beam/transforms/create");
import pardo = require("apache-beam/transforms/pardo");
import naming = require("apache-beam/transforms/transform");
import windowing = require("apache-beam/transforms/window");
import internal = require("apache-beam/transforms/internal");

import { elementCoder } from "../graph/element-coders";

import { isBuilding } from "./function-registry";
import { explicitName, markKind, markNamed } from "./names";
import { CallableTransform } from "./pipeline-builder";

/**
 * Mends the SDK's construction in place, whatever was imported first: `import * as beam` looks exports up at each
 * use, so replacing them on the modules that define them reaches code that was loaded before. Pipelines that the
 * SDK's own runners build are left as they were, except that they no longer fail over the length of a closure.
 */
type AnyFunction = (...args: never[]) => unknown;

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
        return Reflect.apply(original, this, [expr, given, ...rest]);
      },
  );
  // The SDK's own forgets the coder of the elements, which are the values of the groups.
  replace(
    grouping.GroupBy.prototype,
    "expand",
    (original) =>
      function (this: { keyFn: (element: unknown) => unknown }, input: PCollection<unknown>) {
        const { components } = input.pipeline.getProto();
        const { coderId } = components!.pcollections[input.getId()]!;
        if (!isBuilding() || elementCoder(input.pipeline, coderId) === undefined)
          return Reflect.apply(original, this, [input]);
        const { keyFn } = this;
        const values = input.pipeline.getCoder<unknown>(coderId);
        const keyed = input.map((value) => ({ key: keyFn(value), value }));
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

/** The SDK's own throws where it merges nothing but null. */
function ofOperator(combiner: (a: unknown, b: unknown) => unknown) {
  const add = (a: unknown, b: unknown) => (a === undefined ? b : combiner(a, b));
  return {
    createAccumulator: () => undefined,
    addInput: add,
    mergeAccumulators(accumulators: Iterable<unknown>) {
      let merged: unknown;
      for (const each of accumulators) if (each !== undefined) merged = add(merged, each);
      return merged;
    },
    extractOutput: first,
  };
}

function first<T>(value: T): T {
  return value;
}

/** The SDK names a transform by its function's text and throws where that has 60 characters or more. */
function nameable(fn: unknown): unknown {
  if (typeof fn !== "function" || explicitName(fn) !== undefined) return fn;
  const forward = (...args: unknown[]) => Reflect.apply(fn, undefined, args);
  // Where the SDK's own runners serialise it, they find what it captures here.
  return Object.assign(forward, { beamName: "function", __closure: () => ({ fn }) });
}

function replace(target: object, name: string, by: (original: AnyFunction) => AnyFunction | object): void {
  const slot = target as Record<string, AnyFunction>;
  slot[name] = by(slot[name]!) as AnyFunction;
}

installPatches();
