/**
 * Names of transforms. A name is the user's (`withName`, the name given to a PTransformClass) or that of the
 * kind of transform; never function text nor `fn.name`, which a minifier changes. What is left anonymous is told
 * apart by its place among its siblings: `map`, `map-2`.
 */
const explicit = new WeakSet<object>();
const kinds = new WeakMap<object, string>();

/** The user called `withName` on it. */
export function markNamed(target: object): void {
  explicit.add(target);
}

/** For callables that the SDK makes without a name, as `create` does. */
export function markKind<T extends object>(target: T, kind: string): T {
  kinds.set(target, kind);
  return target;
}

export function transformName(transform: object): string {
  const name = beamName(transform);
  if (explicit.has(transform) && name !== undefined) return name;
  const kind = kinds.get(transform);
  if (kind !== undefined) return kind;
  // The SDK puts function text behind a bracket, as in `groupBy((x) => x.a`, and a class's own name where none is given.
  if (name === undefined || (typeof transform === "object" && name === transform.constructor.name))
    return "transform";
  const head = name.split("(", 1)[0]!;
  return head === "" ? "transform" : head[0]!.toLowerCase() + head.slice(1);
}

/** The name that `withName` put on a function; undefined for any other. */
export function explicitName(fn: object): string | undefined {
  return explicit.has(fn) || Object.hasOwn(fn, "beamName") ? beamName(fn) : undefined;
}

const forwarded = new WeakMap<object, unknown>();

/** For a function that does nothing but call another, to have a name of its own. */
export function markForwarding<F extends object>(forward: F, fn: unknown): F {
  forwarded.set(forward, fn);
  return forward;
}

/** The function that is called in the end. */
export function unforwarded<F extends object>(fn: F): F {
  return (forwarded.get(fn) as F | undefined) ?? fn;
}

function beamName(target: object): string | undefined {
  const { beamName: name } = target as { beamName?: unknown };
  if (typeof name === "string") return name;
  return typeof name === "function" ? String(name()) : undefined;
}
