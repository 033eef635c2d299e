export {
  type BundleShape,
  isTimeline,
  type RunResult,
  type RunSteps,
  runInMemory as runInMemoryAsync,
  runInMemorySync as runInMemory,
  SHAPES,
  type SourceElement,
  type SourceStep,
  type TimelineStep,
} from "../../lib/testing/memory-run";

/**
 * In memory each shard learns of each watermark at once; the runner commits nothing for a shard that has nothing to do, so
 * that one learns with its next bundle, at the end.
 */
export const watermarksAreLearnedAtOnce: boolean = true;

/** Of what depends on when a shard learns of a watermark. */
export function testWhereWatermarksAreLearnedAtOnce(...definition: Parameters<jest.It>): void {
  (watermarksAreLearnedAtOnce ? test : test.skip)(...definition);
}
