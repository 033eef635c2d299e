/** What a test of a pipeline imports as "beamkeeper/testing". */
import "../beam/sdk/typings";

export { assertThat, type CollectionAssert, PipelineAssertionError } from "./assert-that";
export { ManualClock } from "./manual-clock";
export type { BundleShape } from "./memory-run";
export {
  type PipelineTestOptions,
  type PipelineTestResult,
  runPipeline,
  runTest,
  type TestOptions,
  type WrittenZnode,
} from "./run-test";
export { readTestStream, TestStream } from "./test-stream";
export { type TestChange, znodeChange } from "./znode-change";
