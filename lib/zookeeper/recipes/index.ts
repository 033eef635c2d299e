export { campaign, currentLeader, type Leader } from "./election";
export type { LineOptions, Turn } from "./line";
export { acquireLock, withLock } from "./lock";
export {
  type CachedZnode,
  type GapReport,
  TreeCache,
  type TreeCacheOptions,
  type TreeChange,
} from "./tree-cache";
export { type Finding, faultsOf, guardVersions, KNOWN_FAULTS, UnsafeServerError } from "./version-guard";
