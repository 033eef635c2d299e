import type { PipelineDefinition } from "beamkeeper";
import znodeSummary from "./znode-summary";

/** The pipelines that are deployed. */
export const pipelines: readonly PipelineDefinition[] = [znodeSummary];
