import "./beam/sdk/typings";

export type {
  BoundedWindow,
  BundleOutput,
  BundleResult,
  CompiledPipeline,
  CompiledSource,
  CompiledStage,
  Distribution,
  Pane,
  SinkEffect,
  StageShard,
  TentativeBundle,
} from "./beam/api";
export {
  batchElements,
  flatMapAsync,
  type MapBatchesOptions,
  mapAsync,
  mapBatches,
  parDoAsync,
} from "./beam/async";
export type {
  AsyncCall,
  AsyncDoFn,
  AsyncOptions,
  BatchCall,
  BatchOptions,
} from "./beam/async-fn";
export {
  type CombineGloballyOptions,
  type Compare,
  combineGlobally,
  distinct,
  sample,
  smallest,
  type TypedCombineFn,
  top,
  withHotKeyFanout,
} from "./beam/combiners";
export {
  BeamError,
  BuildError,
  CorruptEncodingError,
  PipelineDefinitionError,
  type PipelineProblem,
  UnencodableValueError,
  UnsupportedPipelineError,
  UserCodeError,
} from "./beam/errors";
export type { FailureOptions, FailurePolicy } from "./beam/failure-policy";
export { type BundleFinalizer, bundleFinalizer } from "./beam/finalizer";
export type { WatchedZnode } from "./beam/followed-znode";
export { type ModelHandler, type RunInferenceOptions, runInference } from "./beam/inference";
export { type OnnxOptions, type OnnxRuntime, onnxHandler } from "./beam/onnx";
export {
  compilePipeline,
  definePipeline,
  type PipelineDefinition,
  type PipelineOptions,
} from "./beam/pipeline";
export type { SinkPlace } from "./beam/primitives";
export {
  listSideInput,
  type MapView,
  type MultimapView,
  mapSideInput,
  multimapSideInput,
} from "./beam/side-views";
export {
  type InputFile,
  type InputFiles,
  type ReadContext,
  type ReadPiece,
  type SplittableSource,
  splittableRead,
  type WatermarkEstimator,
  type ZnodeStat,
} from "./beam/splittable";
export {
  type BagState,
  bagState,
  type CombiningState,
  combiningState,
  type ElementContext,
  type EventTimer,
  eventTimer,
  type MapState,
  mapState,
  type OrderedListState,
  orderedListState,
  type ProcessingTimer,
  processingTimer,
  type SetState,
  type StatefulContext,
  type StatefulDoFn,
  setState,
  statefulParDo,
  type TimerContext,
  type TimerOptions,
  type TimestampedValue,
  timestamped,
  type ValueState,
  valueState,
} from "./beam/state";

export {
  type AfterWatermarkOptions,
  type ProcessingTimeOptions,
  type Trigger,
  trigger,
  type WindowingOptions,
  windowingStrategy,
} from "./beam/trigger";
export {
  type CalendarOptions,
  type CustomWindowOptions,
  calendarDays,
  calendarMonths,
  calendarYears,
  customWindows,
  fixedWindows,
  type Interval,
  sessions,
  slidingWindows,
} from "./beam/windows";
export type { ZnodeParam } from "./beam/znode-param";
export type { EventRecord } from "./checkpoint/event-record";
export type { EventService, EventSource } from "./checkpoint/event-source";
export type { FieldRule, ValueFilter } from "./checkpoint/value-filter";
export type { ChangeKind, ZnodeChange } from "./checkpoint/znode-change";
export type { ZnodeSource } from "./checkpoint/znode-source";
export { bytes, type DecodedZnodeChange, type Decoder, json, text, ZnodeDecodeError } from "./io/decode";
export * as decoders from "./io/decoders";
export { InputFileError, InputUnavailableError } from "./io/input-errors";
export {
  type DecodedEventRecord,
  EventDecodeError,
  type ReadEventsOptions,
  readEvents,
} from "./io/read-events";
export { type RunInfo, readRun } from "./io/read-run";
export { type ReadTextOptions, readAllText, readJsonLines, readText } from "./io/read-text";
export {
  type DecodingOptions,
  type ReadZnodeChangesOptions,
  readZnodeChanges,
} from "./io/read-znode-changes";
export { type ReadZnodeLatestOptions, readZnodeLatest } from "./io/read-znode-latest";
export { readZnodes, type Znode } from "./io/read-znodes";
export {
  TEXT_SINK,
  type TextFilePayload,
  type WriteToTextOptions,
  writeToJsonLines,
  writeToText,
} from "./io/write-to-text";
export {
  type ConflictPolicy,
  type WriteToZnodesOptions,
  writeToZnodes,
  ZNODES_SINK,
  type ZnodeWrite,
  type ZnodeWriteMode,
  type ZnodeWritePayload,
} from "./io/write-to-znodes";
export type { Overlap, Schedule, ScheduleOptions } from "./schedule/schedule";
