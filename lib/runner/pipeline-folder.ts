import { readdirSync } from "node:fs";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import type { PipelineDefinition } from "../beam/pipeline";
import { collectDefinitions, PipelineFileError } from "./definitions";

/** The files of a folder that define pipelines: its own .ts and .js files, and none of folders below. */
export function pipelineFiles(folder: string): string[] {
  let names: string[];
  try {
    names = readdirSync(folder);
  } catch (error) {
    throw new PipelineFileError(
      `there is no folder ${resolve(folder)}: pipelines are looked for there, one in each file`,
      { cause: error },
    );
  }
  const files = names.filter((name) => /\.[cm]?[jt]s$/.test(name) && !/\.d\.[cm]?ts$/.test(name)).sort();
  if (files.length === 0)
    throw new PipelineFileError(
      `${resolve(folder)} has no pipeline: put a file there whose default export is a definePipeline({ name, build })`,
    );
  return files.map((name) => join(folder, name));
}

/** Loads every pipeline of the folder. Throws {@link PipelineFileError}, or what a file throws when it is loaded. */
export async function loadPipelines(folder: string): Promise<readonly PipelineDefinition[]> {
  const modules: [string, unknown][] = [];
  for (const file of pipelineFiles(folder)) modules.push([file, await loadModule(file)]);
  return collectDefinitions(modules);
}

/** Loads a module as Node does, whatever its kind. */
export function loadModule(file: string): Promise<unknown> {
  return import(pathToFileURL(resolve(file)).href);
}
