import { type Replacement, runSeeds } from "./seed-runner";

/** The code, broken on purpose in one way. */
export interface Mutant {
  readonly name: string;
  readonly replacements: readonly Replacement[];
}

const BUNDLE = "lib/runner/bundle-commit.ts";
const COMMIT = "lib/checkpoint/commit.ts";
const FAILURES = "lib/runner/failures.ts";
const INTAKE = "lib/ingest/intake.ts";
const LOOP = "lib/runner/shard-loop.ts";
const WARM = "lib/runner/warm-shards.ts";
const RELAY = "lib/relay/source-relay.ts";

function mutant(name: string, ...replacements: readonly [file: string, from: string, to: string][]): Mutant {
  return { name, replacements: replacements.map(([file, from, to]) => ({ file, from, to })) };
}

/**
 * Each is a fault that someone could make, and each has to be found within 1,000 seeds. The first thirteen are those
 * that docs/semantics.md names as the pillars of the argument.
 */
export const MUTANTS: readonly Mutant[] = [
  mutant("no head check", [
    BUNDLE,
    "data: encodeHead(head), version: current.version }",
    "data: encodeHead(head) }",
  ]),
  mutant("no generation check", [
    BUNDLE,
    '      ...scopeChecks(generation),\n      { type: "setData", path: layout.head',
    '      { type: "setData", path: layout.head',
  ]),
  mutant(
    "segments deleted outside the multi",
    [
      BUNDLE,
      // biome-ignore lint/suspicious/noTemplateCurlyInString: this is source text.
      '...consumed.whole.map(({ name }): Op => ({ type: "delete", path: `${layout.inbox}/${name}` })),',
      "",
    ],
    [
      BUNDLE,
      '    if (outcome.kind !== "committed") return outcome;\n    this.takeState();',
      // biome-ignore lint/suspicious/noTemplateCurlyInString: this is source text.
      '    if (outcome.kind !== "committed") return outcome;\n    for (const { name } of work.consumed.whole) await client.delete(`${context.layout.inbox}/${name}`).catch(() => undefined);\n    this.takeState();',
    ],
  ),
  mutant("ambiguity taken for failure", [
    COMMIT,
    "      losses += 1;\n      await client.connected();\n      if (losses < MAX_LOSSES) continue;",
    "      losses += 1;\n      await client.connected();\n      throw new CommitLostError(multi.fence.path, losses, operationsBytes(ops), error);",
  ]),
  mutant("ambiguity taken for success", [
    COMMIT,
    "      losses += 1;\n      await client.connected();",
    '      losses += 1;\n      await client.connected();\n      { const { stat } = await reading(client, () => client.getData(multi.fence.path)); return { kind: "committed", zxid: stat.mzxid, version: stat.version, mtimeMs: stat.mtime, overtaken: false }; }',
  ]),
  mutant(
    "cursor outside the multi",
    [
      RELAY,
      "    const fence = { path: this.layout.cursor, decode: decodeCursor };",
      "    const fence = { path: this.layout.cursor, decode: decodeCursor };\n    if (segments.ops.length > 0) await reading(client, () => client.multi([own[0]!, ...segments.ops]));",
    ],
    [
      RELAY,
      "await this.blobs.keep([...manifest.ops, ...segments.ops], cursor)",
      "await this.blobs.keep(manifest.ops, cursor)",
    ],
  ),
  mutant("no walk after reconnect", [
    RELAY,
    "      this.gaps.interrupted();\n      this.walkNeeded = true;",
    '      this.gaps.interrupted();\n      if (notification.type === "ended") this.walkNeeded = true;\n      else this.dirty.resume();',
  ]),
  mutant("a read that waits is forgotten", [
    "lib/runner/unbounded-reads.ts",
    "trace.ahead(() => reads.keep(open.kept(read)));",
    "if (open.resumeAtMs === undefined) trace.ahead(() => reads.keep(open.kept(read)));",
  ]),
  mutant("restrictions moved by keys that they lack", [
    "lib/checkpoint/rotation.ts",
    "generation.keylessStages?.includes(before) ?? false",
    "false",
  ]),
  mutant("watermark from the local clock", [RELAY, "mtimeMs: outcome.mtimeMs };", "mtimeMs: clock.now() };"]),
  mutant(
    "own inbox listed before upstream heads",
    [
      "lib/checkpoint/watermark.ts",
      "  const cursorIds =",
      "  const listedTooEarly = client.getChildren(scope.shard(stage, shard).inbox);\n  await listedTooEarly;\n  const cursorIds =",
    ],
    [
      "lib/checkpoint/watermark.ts",
      "  const own = client.getChildren(scope.shard(stage, shard).inbox);",
      "  const own = listedTooEarly;",
    ],
  ),
  mutant("files written under final names", [
    "lib/runner/text-files.ts",
    "  const ops = entries.map(",
    "  for (const { entry } of entries) await files.publish(entry.temporary, entry.final);\n  const ops = entries.map(",
  ]),
  mutant("dead-letter that drops its neighbours", [
    FAILURES,
    '    if (most > 1) return { kind: "again", limit: smaller(error, most) };\n    return isolate(',
    '    if (most > 4) return { kind: "again", limit: smaller(error, most) };\n    return isolate(',
  ]),
  mutant(
    "cache checked by version alone",
    [
      LOOP,
      '        loaded.spool.close();\n        return "superseded";\n      }\n      if (isSpent)',
      '        if (!isSpent) this.warm.put(context.layout, { ...loaded, number: current.head.number + 1 } as never);\n        return "superseded";\n      }\n      if (isSpent)',
    ],
    [
      WARM,
      "if (warm && warm.commitId === current.head.ids[0]) return warm;",
      "if (warm && (warm.commitId === current.head.ids[0] || (warm as { number?: number }).number === current.head.number)) return warm;",
    ],
  ),
  mutant("commit without the versions of looked up znodes", [
    BUNDLE,
    "result.znodeChecks.map(",
    "result.znodeChecks.slice(0, 0).map(",
  ]),
  mutant("bundle that ran ahead kept after its commit was rejected", [
    LOOP,
    '      if (outcome.kind === "rejected") {\n',
    '      if (outcome.kind === "rejected" && next) return next;\n      if (outcome.kind === "rejected") {\n',
  ]),
  mutant("blob collected too early", [
    "lib/checkpoint/blobs.ts",
    "commitNumberOf(name) <= committed && !own.has(name)",
    "commitNumberOf(name) <= committed + 1 && !own.has(name)",
  ]),
  mutant("cursor without its version", [RELAY, "version: this.stored.version }", "version: -1 }"]),
  mutant("watermark without its barrier", [
    RELAY,
    "this.dirty.waitsSince(this.barrier.order, done)",
    "this.dirty.waitsSince(-1, done)",
  ]),
  mutant("cache used without asking for its commit", [
    WARM,
    "if (warm && warm.commitId === current.head.ids[0]) return warm;",
    "if (warm) return warm;",
  ]),
  mutant("downstream of a dead invocation forgotten", [
    "lib/relay/dispatcher.ts",
    "    else if (state.untold || hasOthers) {",
    "    else if (Number.isNaN(0 as number)) {",
  ]),
  mutant("timers that are set are not committed", [
    "lib/beam/engine/keyed-state.ts",
    "    place.changedTimers.set(name, timer);\n",
    "",
  ]),
  mutant("a rescaled shard begins anew", [
    "lib/checkpoint/redistribution.ts",
    "turns[0]?.watermarkMs ?? furthestMs",
    "Number.NEGATIVE_INFINITY",
  ]),
  mutant("blobs of dead letters collected", [
    WARM,
    "    { path: layout.deadLetters, recordIn: (data, path) => decodeDeadLetter(data, path).segment },\n",
    "",
  ]),
  mutant("events counted by arrival", [
    "lib/relay/dirty-paths.ts",
    "events: dirty.events.filter((event) => event.zxid <= zxid)",
    "events: dirty.events",
  ]),
  mutant("election that ignores the end of the session", [
    "lib/zookeeper/recipes/line.ts",
    'if (state === "lost" || state === "closed") this',
    'if (state === "closed") this',
  ]),
  mutant("update that does not pause", [
    "lib/checkpoint/rotation.ts",
    'if (state === "paused") return current;',
    'if (state === "paused") return current;\n    if (state === "running") return { ...current, generation: { ...current.generation, isRescaling: true } };',
  ]),
  mutant("ids of records without their version", [INTAKE, "data, version }];", "data, version: -1 }];"]),
  mutant("records taken beside a watermark that moves on", [
    INTAKE,
    '{ type: "check", path: layout.cursor, version: cursorVersion },',
    '{ type: "check", path: layout.cursor, version: -1 },',
  ]),
  mutant("records taken into an epoch that has ended", [
    INTAKE,
    '{ type: "check", path: current.layout.generation, version: current.version },\n      { type: "check", path: layout.cursor',
    '{ type: "check", path: current.layout.generation, version: -1 },\n      { type: "check", path: layout.cursor',
  ]),
  mutant("a stream's positions ignored", [
    INTAKE,
    "if (BigInt(position.sequence) <= last) return false;",
    "",
  ]),
];

/** The first seed that finds the mutant; undefined when none of them does. */
export async function hunt(
  { replacements }: Mutant,
  { seeds, workers, from = 1 }: { seeds: number; workers: number; from?: number },
): Promise<number | undefined> {
  const found: number[] = [];
  const stop = new AbortController();
  await runSeeds({
    from,
    to: from + seeds,
    workers,
    stopAt: 1,
    reportEvery: 5,
    replacements,
    signal: stop.signal,
    onReport: (report) => {
      if (!("seed" in report)) return;
      found.push(report.seed);
      // The other workers need not go on: they are about as far.
      stop.abort();
    },
  });
  return found.length === 0 ? undefined : Math.min(...found);
}
