import type { Op } from "../zookeeper";
import type { ModelRequest } from "./model-client";

/** The kinds of process that faults strike. */
export type Part = "relay" | "bundle" | "intake";

/** The protocol's steps: what a process waits for when a fault strikes it. */
export const STEPS = [
  "relay: open the pipeline",
  "relay: stand for election",
  "relay: hand its turn over",
  "relay: load the cursor and the manifest",
  "relay: arm the watch",
  "relay: walk",
  "relay: read a changed znode",
  "relay: commit elements",
  "relay: commit a watermark",
  "relay: compact the manifest",
  "relay: write a blob",
  "relay: read a blob",
  "relay: delete a blob",
  "bundle: open the shard",
  "bundle: derive the watermark and list the inbox",
  "bundle: read segments",
  "bundle: read the state",
  "bundle: plan the user's writes",
  "bundle: write a temporary file",
  "bundle: write a blob",
  "bundle: read a blob",
  "bundle: delete a blob",
  "bundle: commit",
  "bundle: give a file its final name",
  "bundle: remove entries of files",
  "intake: open the pipeline",
  "intake: read what was taken",
  "intake: look for room",
  "intake: append records",
  "intake: write a blob",
] as const;

export type Step = (typeof STEPS)[number];

/** Whether the multi is a commit of that kind: it writes the head of a shard, the cursor of a source, or what was taken of one. */
export function isCommit(ops: readonly Op[], part: Part): boolean {
  return ops.some((op) => op.type === "setData" && FENCES[part].test(op.path));
}

/** Whether the multi is a commit of that kind which moves data: a relay's heartbeat does not count. */
export function movesData(ops: readonly Op[], part: Part): boolean {
  return isCommit(ops, part) && (part === "bundle" || ops.some(isAppend));
}

const FENCES: Record<Part, RegExp> = {
  bundle: /\/(?:epochs|runs)\/[^/]+\/stages\/[^/]+\/\d+$/,
  relay: /\/epochs\/\d+\/sources\/[^/]+$/,
  intake: /\/epochs\/\d+\/sources\/[^/]+\/ids\/\d+$/,
};

/** The line of the relays. */
const LINE = "/election";

function isAppend(op: Op): boolean {
  return op.type === "create" && op.path.includes("/inbox/");
}

/** The step that a request belongs to, as far as the request itself tells. `root` is Beamkeeper's. */
export function stepOf(part: Part, request: ModelRequest, root: string): Step {
  if (part === "intake") return intakeStep(request);
  return part === "relay" ? relayStep(request, root) : bundleStep(request, root);
}

function relayStep({ kind, path, ops }: ModelRequest, root: string): Step {
  if (kind === "addWatch") return "relay: arm the watch";
  if (kind === "write") {
    if (path.includes(LINE) && ops[0]!.type === "delete") return "relay: hand its turn over";
    if (path.includes(LINE)) return "relay: stand for election";
    if (!isCommit(ops, "relay")) return "relay: open the pipeline";
    if (ops.some((op) => op.type === "setData" && op.path.endsWith("/manifest")))
      return "relay: compact the manifest";
    return ops.some(isAppend) ? "relay: commit elements" : "relay: commit a watermark";
  }
  const isOwn = path.startsWith(root);
  if (isOwn && path.includes(LINE)) return "relay: stand for election";
  if (isOwn)
    return path.includes("/sources/")
      ? "relay: load the cursor and the manifest"
      : "relay: open the pipeline";
  return kind === "getData" ? "relay: read a changed znode" : "relay: walk";
}

function bundleStep({ kind, path, ops }: ModelRequest, root: string): Step {
  if (kind === "write") return isCommit(ops, "bundle") ? "bundle: commit" : "bundle: remove entries of files";
  if (!path.startsWith(root)) return "bundle: plan the user's writes";
  if (path.endsWith("/inbox") || path.includes("/sources/"))
    return "bundle: derive the watermark and list the inbox";
  if (path.includes("/inbox/")) return "bundle: read segments";
  return path.endsWith("/state") ? "bundle: read the state" : "bundle: open the shard";
}

function intakeStep({ kind, path, ops }: ModelRequest): Step {
  if (kind === "write")
    return isCommit(ops, "intake") ? "intake: append records" : "intake: open the pipeline";
  if (path.endsWith("/inbox")) return "intake: look for room";
  return path.includes("/sources/") ? "intake: read what was taken" : "intake: open the pipeline";
}
