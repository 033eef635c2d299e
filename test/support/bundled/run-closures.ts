import type { CompiledPipeline, ZnodeWritePayload } from "../../../lib/index";

/** Runs the pipeline on fixed input; the result is plain data, to be compared between processes. */
export function runClosures(pipeline: CompiledPipeline) {
  const [source, grouping] = pipeline.stages;
  const first = pipeline.openShard(source!.id).beginBundle(-Infinity);
  for (let i = 0; i < 6; i++)
    first.processSourceElement({ path: `/in/${i % 2}/x${i}`, text: "v".repeat(i) }, i * 200 - 500);
  const { outputs } = first.finish();
  const second = pipeline.openShard(grouping!.id).beginBundle(-Infinity);
  for (const output of outputs.get(grouping!.id) ?? []) second.processElement(output.bytes);
  second.advanceWatermark(Infinity, 100);
  const { effects } = second.finish();
  return {
    fingerprint: pipeline.fingerprint,
    stages: pipeline.stages,
    effects: effects.map(({ payload, window, transform }) => {
      const { path, data } = payload as ZnodeWritePayload;
      return { path, data: Buffer.from(data).toString(), window, transform };
    }),
  };
}
