/**
 * The batch function as a process of its own, which kills itself with SIGKILL at the commit of a bundle that
 * TEST_DEATH names: its bundle function runs in the same process.
 */
import { createBatchHandler } from "../../functions/batch";
import { createBundleHandler } from "../../functions/bundle";
import { DirectoryBlobs } from "../../lib/checkpoint/blobs";
import { DirectoryFiles } from "../../lib/checkpoint/files";
import type { ShardReply } from "../../lib/checkpoint/invocation";
import { systemClock } from "../../lib/clock";
import { silent } from "../../lib/log";
import { readSettings } from "../../lib/settings";
import { connect } from "../../lib/zookeeper";
import { digitsPipeline } from "./batch-pipeline";
import { withFault } from "./faults";
import { linesPipeline } from "./lines-pipeline";

const settings = readSettings(process.env);
const sample = JSON.parse(process.env.TEST_PIPELINE!);
const shared = {
  settings,
  pipelines: [process.env.TEST_SAMPLE === "lines" ? linesPipeline(sample) : digitsPipeline(sample)],
  connect: () => connect({ ...settings }),
  clock: systemClock,
  log: silent,
};
const death = JSON.parse(process.env.TEST_DEATH!) as { nth: number; point: "before" | "after" };
const die = (): Promise<void> => {
  process.kill(process.pid, "SIGKILL");
  return new Promise(() => undefined);
};
const bundle = createBundleHandler({
  ...shared,
  connect: async () =>
    withFault(await connect({ ...settings }), { kind: "bundle", nth: death.nth, [death.point]: die }),
  files: new DirectoryFiles(settings.output),
  blobs: new DirectoryBlobs(settings.blobStore),
});
const context = { getRemainingTimeInMillis: () => 900_000 };
const batch = createBatchHandler({
  ...shared,
  invoke: async (request) => (await bundle(request, context)) as ShardReply,
});

process.on("disconnect", () => process.exit());
void batch(JSON.parse(process.env.TEST_EVENT!), context);
