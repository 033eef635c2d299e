/**
 * What a pipeline reads from ZooKeeper, as `readZnodeChanges` declares it. `path` is absolute; a segment `*`
 * stands for any one name. Pure.
 */
export interface ZnodeSource {
  readonly path: string;
  /** Also everything below the matching znodes (default true). */
  readonly recursive: boolean;
  /** `snapshot`: what is there at the first start is delivered as `existing` (default). `now`: only changes after it. */
  readonly start: "snapshot" | "now";
  /** Writes of this pipeline below the watched path are meant (default false: they are refused). */
  readonly allowFeedback: boolean;
}

/** The longest path without a wildcard: what the relay watches and walks. */
export function watchRoot(source: ZnodeSource): string {
  const segments = source.path.split("/").slice(1);
  const wildcard = segments.indexOf("*");
  const literal = wildcard < 0 ? segments : segments.slice(0, wildcard);
  return `/${literal.join("/")}`;
}

/** Whether changes of the znode at `path` belong to the source. */
export function matchesSource(source: ZnodeSource, path: string): boolean {
  if (source.path === "/") return source.recursive || path === "/";
  if (path === "/") return false;
  const pattern = source.path.split("/");
  const segments = path.split("/");
  if (segments.length < pattern.length) return false;
  if (segments.length > pattern.length && !source.recursive) return false;
  return pattern.every((expected, index) => expected === "*" || expected === segments[index]);
}

/** Whether a znode at or below `path` could belong to the source, so that a walk has to go there. */
export function leadsToSource(source: ZnodeSource, path: string): boolean {
  if (path === "/" || source.path === "/") return true;
  const pattern = source.path.split("/");
  const segments = path.split("/");
  if (segments.length > pattern.length && !source.recursive) return false;
  return segments.every(
    (segment, index) => index >= pattern.length || pattern[index] === "*" || pattern[index] === segment,
  );
}
