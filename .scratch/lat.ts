import { fork } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { startZooKeeper } from "../infra/zookeeper/server";
import { connect } from "../lib/zookeeper";
import { quantile } from "../bench/frame";
import { relayContestant, watchContestant } from "../bench/relay-contestants";
import { monotonicMs } from "../bench/relay-writer";
import { SourceRelay } from "../lib/relay/source-relay";
import { ChangeReader } from "../lib/relay/change-reader";

const ZNODES = 2000;
const STEADY = { writes: 2_000, inFlight: 50, spreadMs: 4_000 };
const marks: { heard: Map<string, number>; readSent: Map<string, number>; read: Map<string, number>; collected: Map<string, number>; committed: Map<string, number>; commitMs: number[]; empties: number } = { heard: new Map(), readSent: new Map(), read: new Map(), collected: new Map(), committed: new Map(), commitMs: [], empties: 0 };
const P = SourceRelay.prototype as any;
const R = ChangeReader.prototype as any;
if (process.env.MARKS) {
  const heard = R.heard;
  R.heard = function (event: any, dirty: any) { marks.heard.set(event.path, monotonicMs()); return heard.call(this, event, dirty); };
  const read = R.read;
  R.read = async function (path: string, order: number) { marks.readSent.set(path, monotonicMs()); const r = await read.call(this, path, order); marks.read.set(path, monotonicMs()); return r; };
  const commit = P.commit;
  P.commit = async function (batch: any, m: any) { const t = monotonicMs(); for (const p of batch.delivered.keys()) marks.collected.set(p, t); if (batch.elements.length === 0) marks.empties++; await commit.call(this, batch, m); const e = monotonicMs(); if (e - t > 3 || (batch.elements.length === 0 && m.ops.length)) console.log("   slow", (e - t).toFixed(1), "elements", batch.elements.length, "ops", m.ops.map((o: any) => o.type + (o.data?.length ?? "")).slice(0, 4).join(), m.ops.length); marks.commitMs.push(e - t); for (const p of batch.delivered.keys()) marks.committed.set(p, e); };
}
import { StoredManifest } from "../lib/relay/stored-manifest";
if (process.env.MARKS) { const S = StoredManifest.prototype as any; const c = S.compaction; S.compaction = function (n: number) { const t = monotonicMs(); const r = c.call(this, n); console.log("   compaction cpu", (monotonicMs() - t).toFixed(2)); return r; };
 const { PerformanceObserver } = require("node:perf_hooks"); new PerformanceObserver((l: any) => { for (const e of l.getEntries()) if (e.duration > 2) console.log("   gc", e.duration.toFixed(1), e.detail.kind); }).observe({ entryTypes: ["gc"] }); }
let runs = 0;
async function contest(connectString: string, writer: any, contestant: any, mark: boolean) {
  const client = await connect({ connectString });
  const root = `/load-${++runs}`;
  await client.create(root);
  await Promise.all(Array.from({ length: ZNODES }, (_, i) => client.create(`${root}/z${i}`)));
  await client.close();
  const order = { connectString, root, znodes: ZNODES, ...STEADY };
  await contestant.watch(order);
  for (const m of [marks.heard, marks.readSent, marks.read, marks.collected, marks.committed]) m.clear();
  marks.commitMs = []; marks.empties = 0;
  writer.send(order);
  const [{ acknowledgedMs }] = await once(writer, "message");
  const { seenAtMs, calledAtMs = seenAtMs } = await contestant.results();
  const seen = Object.keys(seenAtMs).map(Number);
  const d = (at: number[]) => seen.map((i) => at[i]! - acknowledgedMs[i]!);
  const q = (xs: number[]) => [0.1, 0.25, 0.5, 0.75, 0.9, 0.99].map((p) => quantile(xs, p).toFixed(2)).join(" ");
  console.log(`  handler ${q(d(calledAtMs))} | commit ${q(d(seenAtMs))}`);
  if (mark && process.env.MARKS) {
    const rel = (m: Map<string, number>) => seen.filter((i) => m.has(`${root}/z${i}`)).map((i) => m.get(`${root}/z${i}`)! - acknowledgedMs[i]!);
    for (const name of ["heard", "readSent", "read", "collected", "committed"] as const) console.log(`    ${name.padEnd(10)} ${q(rel(marks[name]))}`);
    console.log("    commit took", q(marks.commitMs), "n", marks.commitMs.length, "empty", marks.empties);
  }
}
async function main() {
  const server = await startZooKeeper({ heapMb: 2048 });
  const writer = fork(join(__dirname, "../bench/relay-writer.ts"), { execArgv: ["--import", "tsx"] });
  try {
    for (let round = 0; round < Number(process.env.ROUNDS ?? 4); round++) {
      console.log("relay"); await contest(server.connectString, writer, relayContestant(server.connectString), true);
      console.log("watch"); await contest(server.connectString, writer, watchContestant(server.connectString, false), false);
      if (process.env.SAVES) { console.log("saves"); await contest(server.connectString, writer, watchContestant(server.connectString, true), false); }
    }
  } finally { writer.kill(); await server.stop(); }
}
main().then(() => process.exit(), (e) => { console.error(e); process.exit(1); });
