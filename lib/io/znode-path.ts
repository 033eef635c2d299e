/**
 * What is wrong with a znode path, or undefined: the rules of ZooKeeper's `PathUtils.validatePath`.
 */
export function pathProblem(path: unknown): string | undefined {
  if (typeof path !== "string") return `must be a string, it is ${typeof path}`;
  if (path === "") return "must not be empty";
  if (!path.startsWith("/")) return `must begin with "/"`;
  if (path === "/") return undefined;
  if (path.endsWith("/")) return `must not end with "/"`;
  for (const segment of path.slice(1).split("/")) {
    if (segment === "") return "must not contain an empty name";
    if (segment === "." || segment === "..") return `must not contain "${segment}"`;
  }
  const bad = FORBIDDEN.exec(path);
  if (bad === null) return undefined;
  return `must not contain the character U+${bad[0].charCodeAt(0).toString(16).padStart(4, "0").toUpperCase()} (at ${bad.index})`;
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: these are the characters that ZooKeeper refuses.
const FORBIDDEN = /[\u0000-\u001f\u007f-\u009f\ud800-\uf8ff\ufff0-\uffff]/;

/** A pattern may have `*` and `**` for whole names only: `/dubbo/*\/providers`, `/app/**\/config`. */
export function patternProblem(pattern: unknown): string | undefined {
  const problem = pathProblem(pattern);
  if (problem !== undefined) return problem;
  const segments = (pattern as string).slice(1).split("/");
  const partial = segments.find((segment) => segment.includes("*") && !["*", "**"].includes(segment));
  if (partial === undefined) return undefined;
  return `may have "*" for a whole name only, not within one ("${partial}"); filter the elements instead`;
}
