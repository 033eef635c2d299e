/** A program of its own: compiles the deployment's pipelines and prints what a deployment has to know, as JSON. */
import { compilePipeline } from "../lib/beam/pipeline";
import { systemClock } from "../lib/clock";
import { inputPatterns } from "../lib/io/read-text";
import { TEXT_SINK } from "../lib/io/write-to-text";
import { planPipeline } from "../lib/runner/deployment";
import { deployableSchedule } from "../lib/runner/readiness";
import { deployedPipelines } from "./pipelines";

async function describe(): Promise<void> {
  const definitions = await deployedPipelines();
  const described = definitions.map((definition) => {
    const compiled = compilePipeline(definition);
    const outputs = compiled.sinks
      .filter(({ sink }) => sink === TEXT_SINK)
      .map(({ config }) => (config as { prefix: string }).prefix);
    const inputs = compiled.stages.flatMap(({ splitting }) =>
      splitting?.phase === "read" ? inputPatterns(splitting.source.config) : [],
    );
    const { sources, eventSources: planned } = planPipeline(compiled);
    const eventSources = planned.map(({ source: { name, from }, settings }) => ({
      ...{ name, from },
      ...settings,
    }));
    const schedule = deployableSchedule(definition, compiled, systemClock.now());
    const watches = sources.length > 0;
    return { name: definition.name, watches, outputs, inputs, eventSources, schedule };
  });
  process.stdout.write(JSON.stringify(described));
}

void describe();
