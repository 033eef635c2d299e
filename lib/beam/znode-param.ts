import { ParDoLookupParam } from "apache-beam";
import type { FollowedZnode } from "./followed-znode";

/**
 * A context parameter whose `lookup()` gives what a znode holds: for all elements of a bundle the value of its beginning.
 */
export class ZnodeParam<T> extends ParDoLookupParam<T> {
  constructor(
    readonly followed: FollowedZnode<T>,
    /** Whether a bundle that looked is only committed while the znode has the version that it saw. */
    readonly checksVersion: boolean,
  ) {
    super("znode");
  }
}

/** The parameters of a context that follow znodes. */
export function znodeParams(context: unknown): readonly ZnodeParam<unknown>[] {
  if (typeof context !== "object" || context === null) return [];
  const params: ZnodeParam<unknown>[] = [];
  // The SDK hands on a copy whose prototype is what the user passed, so inherited properties count.
  for (const key in context) {
    const param = (context as Record<string, unknown>)[key];
    if (param instanceof ZnodeParam) params.push(param);
  }
  return params;
}
