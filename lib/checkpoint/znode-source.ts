import { CHANGE_KINDS, type ChangeKind } from "./znode-change";

/**
 * What a pipeline reads from ZooKeeper, as `readZnodeChanges` declares it: plain data, part of the graph's
 * fingerprint. Paths are absolute; a name `*` stands for any one name, `**` for any number of names. Pure.
 */
export interface ZnodeSource {
  readonly paths: readonly string[];
  /** Also everything below the matching znodes. */
  readonly recursive: boolean;
  /** The name of the ensemble that it is on, in the settings. Default: the one that holds the root. */
  readonly ensemble?: string;
  /** Patterns of what is left out, with everything below. Default: none. */
  readonly exclude?: readonly string[];
  /** What is delivered. Default: {@link DEFAULT_KINDS}. */
  readonly kinds?: readonly ChangeKind[];
  /** Which values are delivered, see value-filter.ts. Default: all. */
  readonly filter?: unknown;
  /** Deliver the value before a change as well, where the relay still knows it. Default: false. */
  readonly previous?: boolean;
  /** `snapshot`: what is there at the first start is delivered as `existing`. `now`: only changes after it. */
  readonly start: "snapshot" | "now";
  /** Writes of this pipeline below the watched path are meant (default false: they are refused). */
  readonly allowFeedback: boolean;
}

/** How the changes of a source are brought together in commits. What is left out is the deployment's default. */
export interface SourceBatching {
  /** Znodes in one commit. */
  readonly size?: number;
  /** How long the first change of a batch waits for others, in ms. */
  readonly windowMs?: number;
  /** Bytes of the elements in one commit. */
  readonly bytes?: number;
}

/** The kinds that a source delivers unless it says otherwise. */
export const DEFAULT_KINDS: readonly ChangeKind[] = ["existing", "created", "changed", "deleted"];

/** Whether a source delivers a kind of change. */
export type WantedKinds = Readonly<Record<ChangeKind, boolean>>;

export function wantedKinds({ kinds = DEFAULT_KINDS }: Pick<ZnodeSource, "kinds">): WantedKinds {
  return Object.fromEntries(CHANGE_KINDS.map((kind) => [kind, kinds.includes(kind)])) as WantedKinds;
}

/** A pattern: the names up to the first wildcard, and the rest. */
interface Pattern {
  /** Without a slash at the end; "" is the root. */
  readonly prefix: string;
  readonly rest: readonly string[];
}

/** The paths of a source, compiled: each event and each znode of a walk is asked about. */
export class SourcePaths {
  private readonly included: readonly Pattern[];
  private readonly excluded: readonly Pattern[];
  /** The longest paths without a wildcard, none below another: what the relay watches and walks. */
  readonly roots: readonly string[];

  constructor({ paths, exclude = [], recursive }: Pick<ZnodeSource, "paths" | "exclude" | "recursive">) {
    this.included = paths.map((path) => compile(path, recursive));
    this.excluded = exclude.map((path) => compile(path, true));
    const roots = [...new Set(this.included.map(({ prefix }) => prefix))];
    const isBelowAnother = (root: string): boolean =>
      roots.some((other) => other !== root && isAtOrBelow(root, other));
    this.roots = roots.filter((root) => !isBelowAnother(root)).map((root) => root || "/");
  }

  /** Whether changes of the znode at `path` belong to the source. */
  matches(path: string): boolean {
    const own = path === "/" ? "" : path;
    return this.included.some((pattern) => matches(pattern, own)) && !this.excludes(own);
  }

  /** Whether a znode at or below `path` could belong to the source, so that a walk has to go there. */
  leadsTo(path: string): boolean {
    const own = path === "/" ? "" : path;
    return this.included.some((pattern) => leads(pattern, own)) && !this.excludes(own);
  }

  private excludes(path: string): boolean {
    return this.excluded.some((pattern) => matches(pattern, path));
  }
}

const compiled = new WeakMap<ZnodeSource, SourcePaths>();

/** Whether changes of the znode at `path` belong to the source. */
export function matchesSource(source: ZnodeSource, path: string): boolean {
  let paths = compiled.get(source);
  if (!paths) {
    paths = new SourcePaths(source);
    compiled.set(source, paths);
  }
  return paths.matches(path);
}

function compile(path: string, recursive: boolean): Pattern {
  const names = path.split("/").slice(1).filter(Boolean);
  const wildcard = names.findIndex((name) => name === "*" || name === "**");
  const literal = wildcard < 0 ? names : names.slice(0, wildcard);
  const rest = wildcard < 0 ? [] : names.slice(wildcard);
  if (recursive && rest.at(-1) !== "**") rest.push("**");
  return { prefix: literal.map((name) => `/${name}`).join(""), rest };
}

function isAtOrBelow(path: string, prefix: string): boolean {
  return path.startsWith(prefix) && (path.length === prefix.length || path[prefix.length] === "/");
}

function namesBelow(path: string, prefix: string): string[] {
  return path.length === prefix.length ? [] : path.slice(prefix.length + 1).split("/");
}

function matches({ prefix, rest }: Pattern, path: string): boolean {
  if (!isAtOrBelow(path, prefix)) return false;
  if (rest.length === 1 && rest[0] === "**") return true;
  return fits(rest, 0, namesBelow(path, prefix), 0);
}

function fits(pattern: readonly string[], at: number, names: readonly string[], from: number): boolean {
  if (at === pattern.length) return from === names.length;
  if (pattern[at] === "**") {
    for (let next = from; next <= names.length; next++) if (fits(pattern, at + 1, names, next)) return true;
    return false;
  }
  if (from === names.length) return false;
  return (pattern[at] === "*" || pattern[at] === names[from]) && fits(pattern, at + 1, names, from + 1);
}

function leads({ prefix, rest }: Pattern, path: string): boolean {
  if (!isAtOrBelow(path, prefix)) return isAtOrBelow(prefix, path);
  if (rest[0] === "**") return true;
  const names = namesBelow(path, prefix);
  for (const [index, name] of names.entries()) {
    if (rest[index] === "**") return true;
    if (rest[index] !== "*" && rest[index] !== name) return false;
  }
  return true;
}
