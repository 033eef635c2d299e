import type { PipelineDefinition } from "../lib/beam/pipeline";
import { loadPipelines } from "../lib/runner/pipeline-folder";

/**
 * The pipelines of this deployment: those of the folder `pipelines` in the working directory. When functions are
 * bundled, infra/esbuild puts a module in the place of this one that imports the same files.
 */
export function deployedPipelines(): Promise<readonly PipelineDefinition[]> {
  return loadPipelines("pipelines");
}
