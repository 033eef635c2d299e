export {
  type BundleShape,
  type RunResult,
  runInMemory as runInMemoryAsync,
  runInMemorySync as runInMemory,
  SHAPES,
  type SourceElement,
  type SourceStep,
} from "../../lib/testing/memory-run";
