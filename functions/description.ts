/** A program of its own: compiles the deployment's pipelines and prints what a deployment has to know, as JSON. */
import { compilePipeline } from "../lib/beam/pipeline";
import { systemClock } from "../lib/clock";
import { TEXT_SINK } from "../lib/io/write-to-text";
import { isBounded } from "../lib/runner/deployment";
import { schedulerEntry } from "../lib/schedule/scheduler";
import { deployedPipelines } from "./pipelines";

async function describe(): Promise<void> {
  const definitions = await deployedPipelines();
  const described = definitions.map((definition) => {
    const compiled = compilePipeline(definition);
    const { name, schedule } = definition;
    if (schedule && !isBounded(compiled))
      throw new RangeError(
        `pipeline "${name}" has a schedule and watches znodes, so it never ends: leave out the schedule, or begin it with readRun()`,
      );
    const outputs = compiled.sinks
      .filter(({ sink }) => sink === TEXT_SINK)
      .map(({ config }) => (config as { prefix: string }).prefix);
    return { name, outputs, schedule: schedule ? schedulerEntry(name, schedule, systemClock.now()) : null };
  });
  process.stdout.write(JSON.stringify(described));
}

void describe();
