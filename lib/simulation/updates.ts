import type { CompiledPipeline } from "../beam/api";
import { ControlError, resumePipeline } from "../checkpoint/control";
import { NO_CHOICES } from "../checkpoint/graph";
import { decodeGeneration } from "../checkpoint/records";
import { planPipeline } from "../runner/deployment";
import { rescale, update } from "../runner/rescale";
import { type ZooKeeperClient, ZooKeeperError } from "../zookeeper";
import type { ModelClient } from "./model-client";
import { COPIES, RESULTS } from "./summary-pipeline";
import { LATE_POISON, type World } from "./world";

/** Of what is begun and given up before it is repeated until it is done. */
const MOST_BROKEN = 6;

/**
 * Hands the running pipeline to its changed code, which is deployed at some time about then. Whoever does it is killed or
 * stands still at times, and the next one begins again, maybe beside it, and maybe with a rescale. Resolves when it is
 * done, and whoever stood still is, too.
 */
export async function updateUnderWay(world: World, changed: CompiledPipeline): Promise<void> {
  const { time, layout, ensemble, blobs, tally } = world;
  const { plan } = planPipeline(changed);
  const all: Promise<boolean>[] = [];
  const start = (client: ModelClient, isUpdate: boolean): Promise<boolean> => {
    const shards = (): Record<string, number> =>
      Object.fromEntries(world.pipeline.stages.map(({ id }) => [id, time.between(1, 4)]));
    const work = isUpdate
      ? update(client, blobs, layout, plan, NO_CHOICES)
      : rescale(client, blobs, layout, shards());
    return work.then(
      () => isUpdate,
      (error: unknown) => {
        // Another one was faster, or its session ended.
        if (error instanceof ControlError || error instanceof ZooKeeperError) return false;
        throw error;
      },
    );
  };
  await time.sleep(time.between(50, 2_500));
  while (!(await ensemble.connect().exists(layout.generation))) await time.sleep(50);
  time.after(time.between(0, 1_000), () => {
    world.deployed = changed;
  });
  for (let left = time.between(0, MOST_BROKEN); ; left--) {
    const client = ensemble.connect();
    world.hadGap = true;
    const isUpdate = left <= 0 || time.chance(0.8);
    tally[isUpdate ? "updates" : "rescales"] += 1;
    const done = start(client, isUpdate);
    // It may be heard of at the end alone.
    done.catch(() => undefined);
    if (left <= 0) {
      if (await done) break;
      continue;
    }
    await Promise.race([done, time.sleep(time.between(1, 400))]);
    if (time.chance(0.6)) client.die();
    else {
      client.freeze(time.between(50, 4_000));
      all.push(done);
    }
  }
  await Promise.all(all);
  // A rescale that was killed or broken off may have left it paused.
  await resumePipeline(ensemble.connect(), layout);
}

/**
 * What is wrong with what the changed code did beside, in sentences: each result that was committed since the update has
 * a copy, each once, and none from before it has.
 */
export async function judgeCopies(
  world: World,
  client: ZooKeeperClient,
  isCancelled: boolean,
): Promise<string[]> {
  const problems: string[] = [];
  const updated = updatedAt(world);
  const copies = new Map<string, string[]>();
  for (const name of (await client.getChildren(COPIES)).children) {
    const [, result, number] = /^(.*)-(\d+)$/.exec(name)!;
    const text = (await client.getData(`${COPIES}/${name}`)).data.toString("utf8");
    const known = copies.get(result!) ?? [];
    if (known.includes(text) || Number(number) > 1) problems.push(`the result ${result} was copied twice`);
    copies.set(result!, [...known, text]);
  }
  for (const start of (await client.getChildren(RESULTS)).children)
    for (const path of (await client.getChildren(`${RESULTS}/${start}`)).children) {
      const { data, stat } = await client.getData(`${RESULTS}/${start}/${path}`);
      const found = copies.get(`${start}-${path}`) ?? [];
      if (stat.mzxid < updated && found.length > 0)
        problems.push(`the result ${start}-${path} has a copy, and is from before the update`);
      const text = data.toString("utf8");
      if (isCancelled || stat.mzxid < updated || text === "" || text.includes(LATE_POISON)) continue;
      if (!found.includes(text)) problems.push(`the result ${start}-${path} has no copy`);
    }
  return problems;
}

/** The transaction with which the changed code was to take over. */
function updatedAt({ ensemble, layout, changed }: World): bigint {
  const switched = ensemble.onDisk.find(({ ops }) =>
    ops.some(
      (op) =>
        op.type === "setData" &&
        op.path === layout.generation &&
        decodeGeneration(op.data, op.path).fingerprint === changed?.fingerprint,
    ),
  );
  return switched!.zxid;
}
