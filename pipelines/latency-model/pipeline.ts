import { definePipeline, json, onnxHandler, readZnodeChanges, runInference, writeToZnodes } from "beamkeeper";

interface Report {
  readonly service: string;
  readonly latencyMs: number;
}

/**
 * Anomaly detection with a model: services report their latency below /latency, and what the model in the znode
 * /models/latency finds unusual becomes an alert. `node make-model.mjs 20 5 model.onnx` makes a model; writing it to
 * the znode puts it to use with the next bundle, without a deploy. It needs `npm install onnxruntime-web`.
 */
export default definePipeline({
  name: "latency-anomalies",
  build: (root) =>
    root
      .apply(
        readZnodeChanges("/latency/*", {
          recursive: false,
          kinds: ["existing", "created", "changed"],
          decode: json<Report>(),
        }),
      )
      .map(({ value, mzxid }) => ({ report: value!, id: mzxid.toString(16) }))
      .apply(
        runInference(
          onnxHandler({
            runtime: () => import("onnxruntime-web"),
            features: ({ report }: { report: Report; id: string }) => [report.latencyMs],
            result: ({ report, id }, [score]) => ({ ...report, id, score: score! }),
          }),
          { model: "/models/latency", maxElements: 500 },
        ),
      )
      .flatMap((scored) => (scored.score > 0.5 ? [scored] : []))
      .apply(
        writeToZnodes(({ service, id, latencyMs, score }) => ({
          path: `/anomalies/${service}/${id}`,
          data: JSON.stringify({ latencyMs, score: Number(score.toFixed(3)) }),
        })),
      ),
});
