import * as runnerApi from "apache-beam/proto/beam_runner_api";

/** What a windowing strategy asks for beyond the default trigger without lateness. */
export function strategyProblems(strategy: runnerApi.WindowingStrategy): string[] {
  const problems: string[] = [];
  const trigger = strategy.trigger?.trigger.oneofKind;
  if (trigger !== undefined && trigger !== "default")
    problems.push(`the trigger "${trigger}" is not supported`);
  if (BigInt(strategy.allowedLateness) !== 0n) {
    problems.push(`an allowed lateness of ${strategy.allowedLateness} ms is not supported, only 0`);
  }
  if (strategy.accumulationMode === runnerApi.AccumulationMode_Enum.RETRACTING) {
    problems.push("retracting panes are not supported");
  }
  if (!SUPPORTED_OUTPUT_TIMES.has(strategy.outputTime)) {
    problems.push(`the output time ${runnerApi.OutputTime_Enum[strategy.outputTime]} is not supported`);
  }
  return problems;
}

const SUPPORTED_OUTPUT_TIMES: ReadonlySet<runnerApi.OutputTime_Enum> = new Set([
  runnerApi.OutputTime_Enum.UNSPECIFIED,
  runnerApi.OutputTime_Enum.END_OF_WINDOW,
]);
