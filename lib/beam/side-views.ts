import { type KV, type PCollection, SideInputParam } from "apache-beam";
import { keyId } from "./coders/key";
import type { KeyId } from "./engine/aggregation";
import { elementText } from "./operators/user-code";

/**
 * Side inputs beside the SDK's `iterableSideInput` and `singletonSideInput`. What `lookup()` gives is made once for each
 * window and pane and shared by all elements that look at it, so it must not be changed.
 */

/** What a map view holds: one value for each key. Keys are compared by value, as those of a grouping. */
export interface MapView<K, V> extends Iterable<readonly [K, V]> {
  readonly size: number;
  get(key: K): V | undefined;
  has(key: K): boolean;
  keys(): Iterable<K>;
  values(): Iterable<V>;
}

/** What a multimap view holds: any number of values for each key, in no order that means something. */
export interface MultimapView<K, V> extends Iterable<readonly [K, readonly V[]]> {
  /** The number of different keys. */
  readonly size: number;
  /** Empty where there is none. */
  get(key: K): readonly V[];
  has(key: K): boolean;
  keys(): Iterable<K>;
}

/** All elements of a window as an array, in no order that means something. Beam: `View.asList`. */
export function listSideInput<T>(pcoll: PCollection<T>): SideInputParam<T, Iterable<T>, readonly T[]> {
  return viewParam(pcoll, (values) => values);
}

/**
 * The elements of a window as a map. Two values for one key are an error of the element that looks it up, which names the
 * view and the key. Beam: `View.asMap`.
 */
export function mapSideInput<K, V>(
  pcoll: PCollection<KV<K, V>>,
): SideInputParam<KV<K, V>, Iterable<KV<K, V>>, MapView<K, V>> {
  return viewParam(pcoll, (pairs, name) => new ByKey(singleValues(pairs, name)));
}

/** The elements of a window by their keys. Beam: `View.asMultimap`. */
export function multimapSideInput<K, V>(
  pcoll: PCollection<KV<K, V>>,
): SideInputParam<KV<K, V>, Iterable<KV<K, V>>, MultimapView<K, V>> {
  return viewParam(pcoll, (pairs, name) => new ByKeys(allValues(pairs, name)));
}

type Build<T, R> = (values: readonly T[], name: string) => R;

/**
 * How the SDK's own pipelines read it is the same as of an iterable: what a view is lies in the function alone, so it
 * needs no form of its own in the graph.
 */
function viewParam<T, R>(pcoll: PCollection<T>, build: Build<T, R>): SideInputParam<T, Iterable<T>, R> {
  return new SideInputParam<T, Iterable<T>, R>(pcoll, {
    accessPattern: "beam:side_input:iterable:v1",
    toValue: once(build) as (values: unknown) => R,
  });
}

/** The engine gives the same array for the same pane, for as long as it remembers it. */
function once<T, R>(build: Build<T, R>): (values: Iterable<T>, sideInputId?: string) => R {
  const built = new WeakMap<object, { readonly view: R } | { readonly error: unknown }>();
  return (values, sideInputId = "") => {
    let known = built.get(values);
    if (known === undefined) {
      known = attempt(() => build(Array.isArray(values) ? values : [...values], nameOf(sideInputId)));
      built.set(values, known);
    }
    if ("error" in known) throw known.error;
    return known.view;
  };
}

function attempt<R>(build: () => R): { readonly view: R } | { readonly error: unknown } {
  try {
    return { view: build() };
  } catch (error) {
    return { error };
  }
}

function nameOf(sideInputId: string): string {
  return `side input "${sideInputId.replace(/^side\./, "")}"`;
}

interface Entry<K, V> {
  readonly key: K;
  readonly value: V;
}

type Entries<K, V> = ReadonlyMap<KeyId, Entry<K, V>>;

function singleValues<K, V>(pairs: readonly KV<K, V>[], name: string): Entries<K, V> {
  const entries = new Map<KeyId, Entry<K, V>>();
  for (const pair of pairs) {
    const { key, value } = requirePair(pair, name);
    const id = keyId(key);
    if (entries.has(id))
      throw new Error(
        `${name}: the key ${elementText(key)} has more than one value in its window; use multimapSideInput, or combine by key before`,
      );
    entries.set(id, { key, value });
  }
  return entries;
}

function allValues<K, V>(pairs: readonly KV<K, V>[], name: string): Entries<K, readonly V[]> {
  const entries = new Map<KeyId, Entry<K, V[]>>();
  for (const pair of pairs) {
    const { key, value } = requirePair(pair, name);
    const id = keyId(key);
    const known = entries.get(id);
    if (known === undefined) entries.set(id, { key, value: [value] });
    else known.value.push(value);
  }
  return entries;
}

function requirePair<K, V>(pair: KV<K, V>, name: string): KV<K, V> {
  if (typeof pair === "object" && pair !== null && "key" in pair) return pair;
  throw new TypeError(`${name} needs elements of the form {key, value}, not ${elementText(pair)}`);
}

class Keyed<K, V> {
  constructor(protected readonly entries: Entries<K, V>) {}

  get size(): number {
    return this.entries.size;
  }

  has(key: K): boolean {
    return this.entries.has(keyId(key));
  }

  *keys(): Generator<K> {
    for (const { key } of this.entries.values()) yield key;
  }

  *[Symbol.iterator](): Generator<readonly [K, V]> {
    for (const { key, value } of this.entries.values()) yield [key, value];
  }
}

class ByKey<K, V> extends Keyed<K, V> implements MapView<K, V> {
  get(key: K): V | undefined {
    return this.entries.get(keyId(key))?.value;
  }

  *values(): Generator<V> {
    for (const { value } of this.entries.values()) yield value;
  }
}

const NOTHING: readonly never[] = [];

class ByKeys<K, V> extends Keyed<K, readonly V[]> implements MultimapView<K, V> {
  get(key: K): readonly V[] {
    return this.entries.get(keyId(key))?.value ?? NOTHING;
  }
}
