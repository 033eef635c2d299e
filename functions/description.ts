/** A program of its own: compiles the deployment's pipelines and prints what a deployment has to know, as JSON. */
import { compilePipeline } from "../lib/beam/pipeline";
import { TEXT_SINK } from "../lib/io/write-to-text";
import { deployedPipelines } from "./pipelines";

async function describe(): Promise<void> {
  const definitions = await deployedPipelines();
  const described = definitions.map((definition) => {
    const { name, sinks } = compilePipeline(definition);
    const outputs = sinks
      .filter(({ sink }) => sink === TEXT_SINK)
      .map(({ config }) => (config as { prefix: string }).prefix);
    return { name, outputs };
  });
  process.stdout.write(JSON.stringify(described));
}

void describe();
