import { pathProblem } from "../zookeeper/paths";

/** A pattern may have `*` and `**` for whole names only: `/dubbo/*\/providers`, `/app/**\/config`. */
export function patternProblem(pattern: unknown): string | undefined {
  const problem = pathProblem(pattern);
  if (problem !== undefined) return problem;
  const segments = (pattern as string).slice(1).split("/");
  const partial = segments.find((segment) => segment.includes("*") && !["*", "**"].includes(segment));
  if (partial === undefined) return undefined;
  return `may have "*" for a whole name only, not within one ("${partial}"); filter the elements instead`;
}
