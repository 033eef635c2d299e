export {
  type BundleShape,
  type RunResult,
  runInMemory as runInMemoryAsync,
  runInMemorySync as runInMemory,
  SHAPES,
  type SourceElement,
  type SourceStep,
} from "../../lib/testing/memory-run";

/**
 * Of what depends on when a shard learns of a watermark. In memory each one learns of each at once; the runner commits
 * nothing for a shard that has nothing to do, so that one learns with its next bundle, at the end.
 */
export function testWhereWatermarksAreLearnedAtOnce(...definition: Parameters<jest.It>): void {
  test(...definition);
}
