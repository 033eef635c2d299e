import { existsSync } from "node:fs";
import { resolve } from "node:path";
import type { PipelineDefinition } from "../beam/pipeline";
import { collectDefinitions, definitionOf, PipelineFileError } from "../runner/definitions";
import { loadModule, loadPipelines } from "../runner/pipeline-folder";
import { UsageError } from "./arguments";

const PIPELINES = "pipelines";

/** A file, or the name of a pipeline in the folder `pipelines`. Throws UsageError, or what the file throws. */
export async function namedPipeline(name: string): Promise<PipelineDefinition> {
  return asUsage(() => find(name));
}

/** The pipelines of these files and names, or all of the folder `pipelines` where there are none. Throws as above. */
export async function namedPipelines(names: readonly string[]): Promise<readonly PipelineDefinition[]> {
  return asUsage(async () => {
    if (names.length === 0) return loadPipelines(PIPELINES);
    const found = await Promise.all(names.map(find));
    return collectDefinitions(found.map((definition, index) => [names[index]!, { default: definition }]));
  });
}

async function find(name: string): Promise<PipelineDefinition> {
  if (existsSync(name)) return definitionOf(name, await loadModule(name));
  if (/[./\\]/.test(name) || !existsSync(PIPELINES))
    throw new UsageError(`there is no file ${resolve(name)}`);
  const known = await loadPipelines(PIPELINES);
  const definition = known.find((each) => each.name === name);
  if (definition) return definition;
  throw new UsageError(
    `there is no file ${resolve(name)}, and no pipeline "${name}" in ${PIPELINES}/, which has ${known.map((each) => each.name).join(", ")}`,
  );
}

async function asUsage<T>(load: () => Promise<T>): Promise<T> {
  try {
    return await load();
  } catch (error) {
    throw error instanceof PipelineFileError ? new UsageError(error.message) : error;
  }
}
