import { pausePipeline, resumePipeline } from "../../lib/checkpoint/control";
import { PipelineLayout } from "../../lib/checkpoint/layout";
import { openPipeline, readGeneration } from "../../lib/checkpoint/scope";
import { ModelEnsemble } from "../../lib/simulation/model-ensemble";
import { VirtualTime } from "../../lib/simulation/virtual-time";

const PLAN = {
  fingerprint: "f".repeat(64),
  sources: [],
  shards: {},
  upstream: {},
  impulses: [],
  minTimestampMs: 0,
};
const ROUNDS = 20;

/** Each command is one more session, at a server that may not have heard of the command before. */
async function pauseAndResume(ensemble: ModelEnsemble): Promise<string[]> {
  const layout = new PipelineLayout("/beamkeeper", "p");
  const observer = ensemble.connect();
  await openPipeline(observer, layout, PLAN);
  const states: string[] = [];
  for (let round = 0; round < ROUNDS; round++)
    for (const command of [pausePipeline, resumePipeline]) {
      await command(ensemble.connect(), layout);
      await observer.sync();
      states.push((await readGeneration(observer, layout))!.generation.state);
    }
  return states;
}

test("a command takes effect after another one, whichever servers they are sent to", async () => {
  const time = new VirtualTime(1, 1_000);
  const ensemble = new ModelEnsemble(time, { servers: 3, latencyMs: 1, lagMs: 500 });
  let states: string[] | undefined;
  const done = pauseAndResume(ensemble).then((found) => {
    states = found;
  });
  await time.run(() => states !== undefined, 600_000, 100_000);
  await done;
  expect(states).toEqual(Array.from({ length: ROUNDS }, () => ["paused", "running"]).flat());
});
