import { definePipeline, type PipelineDefinition } from "../beam/pipeline";

/** A file of `pipelines/` does not define a pipeline, or two define the same. Terminal. */
export class PipelineFileError extends Error {
  override readonly name = "PipelineFileError";
  readonly outcome = "terminal";
}

/**
 * The pipeline that a module exports by default. Where modules of two kinds meet, the default export may lie one or
 * two levels deeper.
 */
export function definitionOf(file: string, module: unknown): PipelineDefinition {
  let candidate = module;
  for (let depth = 0; depth < 3 && typeof candidate === "object" && candidate !== null; depth++) {
    if ("build" in candidate && "name" in candidate) return definePipeline(candidate as PipelineDefinition);
    candidate = (candidate as { default?: unknown }).default;
  }
  throw new PipelineFileError(
    `${file} has no pipeline: its default export must be a definePipeline({ name, build }). What pipelines share ` +
      "goes into a folder below.",
  );
}

/** The pipelines of some files, by the files' names; refuses two of the same name. */
export function collectDefinitions(
  modules: readonly (readonly [file: string, module: unknown])[],
): readonly PipelineDefinition[] {
  const files = new Map<string, string>();
  return modules.map(([file, module]) => {
    const definition = definitionOf(file, module);
    const other = files.get(definition.name);
    if (other !== undefined)
      throw new PipelineFileError(
        `${other} and ${file} both define the pipeline "${definition.name}": give one of them another name`,
      );
    files.set(definition.name, file);
    return definition;
  });
}
