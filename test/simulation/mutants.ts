/**
 * Breaks the code on purpose, one place at a time, and counts the seeds until the simulation notices.
 *
 * Each mutant is what was last committed, in a temporary folder, with one text replaced. A mutant that survives is a
 * fault that no test of the simulation would find; the exit code is 1 then. "Ambiguity taken for failure" is not
 * among them: whoever takes a commit of its own for a rejected one drops what it holds and ends, and the next
 * invocation finds the commit in the head, so nothing comes out differently.
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

interface Mutant {
  readonly name: string;
  readonly file: string;
  readonly from: string;
  readonly to: string;
}

const MUTANTS: readonly Mutant[] = [
  {
    name: "no head check",
    file: "lib/runner/bundle.ts",
    from: "data: encodeHead(head), version: current.version }",
    to: "data: encodeHead(head) }",
  },
  {
    name: "no generation check",
    file: "lib/runner/shard-runner.ts",
    from: "version: current.version };",
    to: "version: -1 };",
  },
  {
    name: "segments deleted outside the multi",
    file: "lib/runner/bundle.ts",
    // biome-ignore lint/suspicious/noTemplateCurlyInString: this is source text.
    from: '...consumed.whole.map(({ name }): Op => ({ type: "delete", path: `${layout.inbox}/${name}` })),',
    to: "",
  },
  {
    name: "ambiguity taken for success",
    file: "lib/checkpoint/commit.ts",
    from: "if (!ids.includes(multi.commitId)) return undefined;",
    to: 'if (ids) return { kind: "committed", zxid: stat.mzxid, version: stat.version, mtimeMs: stat.mtime, overtaken: false };',
  },
  {
    name: "cursor without its version",
    file: "lib/relay/source-relay.ts",
    from: "version: this.cursorVersion",
    to: "version: -1",
  },
  {
    name: "no walk after reconnect",
    file: "lib/relay/source-relay.ts",
    from: 'this.walkNeeded = true;\n      this.barrier = undefined;\n      if (notification.type === "ended")',
    to: 'this.barrier = undefined;\n      if (notification.type === "ended")',
  },
  {
    name: "watermark from the local clock",
    file: "lib/relay/source-relay.ts",
    from: "mtimeMs: outcome.mtimeMs };",
    to: "mtimeMs: clock.now() };",
  },
  {
    name: "watermark without its barrier",
    file: "lib/relay/source-relay.ts",
    from: "this.dirty.waitsSince(this.barrier.order, done)",
    to: "this.dirty.waitsSince(-1, done)",
  },
  {
    name: "own inbox listed before upstream heads",
    file: "lib/checkpoint/watermark.ts",
    from: "  const cursorIds =",
    to: "  const listedTooEarly = listInbox(client, scope.shard(stage, shard).inbox);\n  await listedTooEarly;\n  const cursorIds =",
  },
  {
    name: "files written under final names",
    file: "lib/runner/text-files.ts",
    from: "  const ops = entries.map(",
    to: "  for (const { entry } of entries) await files.publish(entry.temporary, entry.final);\n  const ops = entries.map(",
  },
  {
    name: "cache used without asking for its commit",
    file: "lib/runner/shard-runner.ts",
    from: "if (warm && warm.commitId === head.ids[0]) return warm.shard;",
    to: "if (warm) return warm.shard;",
  },
  {
    name: "downstream of a dead invocation forgotten",
    file: "lib/relay/dispatcher.ts",
    from: "    else if (state.untold) {",
    to: "    else if (Number.isNaN(0 as number)) {",
  },
  {
    name: "events counted by arrival",
    file: "lib/relay/dirty-paths.ts",
    from: "events: dirty.events.filter((event) => event.zxid <= zxid)",
    to: "events: dirty.events",
  },
];

const PROJECT = join(__dirname, "../..");
const SEEDS = Number(process.env.SIMULATION_SEEDS ?? 1000);
function find({ file, from, to }: Mutant): { seed: string | undefined; seconds: number } {
  const folder = mkdtempSync(join(tmpdir(), "beamkeeper-mutant-"));
  try {
    const archive = spawnSync("git", ["archive", "HEAD"], { cwd: PROJECT, maxBuffer: 2 ** 28 });
    spawnSync("tar", ["-x", "-C", folder], { input: archive.stdout });
    symlinkSync(join(PROJECT, "node_modules"), join(folder, "node_modules"));
    const path = join(folder, file);
    const text = readFileSync(path, "utf8");
    if (!text.includes(from)) throw new Error(`${file} no longer contains: ${from}`);
    writeFileSync(path, mutate(text, from, to));
    const began = Date.now();
    const run = spawnSync(
      process.execPath,
      ["node_modules/jest/bin/jest.js", "test/simulation", "-t", "nothing is lost"],
      {
        cwd: folder,
        env: { ...process.env, SIMULATION_SEEDS: `${SEEDS}`, SIMULATION_STOP_AT: "1" },
        encoding: "utf8",
      },
    );
    const output = run.stdout + run.stderr;
    const seed = /seed (\d+):/.exec(output)?.[1];
    if (run.status !== 0 && seed === undefined) throw new Error(`the simulation did not run:\n${output}`);
    return { seed, seconds: (Date.now() - began) / 1000 };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function mutate(text: string, from: string, to: string): string {
  return text.replace(from, () => to);
}

/** Tries the mutants whose names contain one of the words (all without words); returns how many survived. */
export function hunt(words: readonly string[]): number {
  let survivors = 0;
  const isWanted = (name: string): boolean => words.length === 0 || words.some((word) => name.includes(word));
  for (const mutant of MUTANTS.filter(({ name }) => isWanted(name))) {
    const { seed, seconds } = find(mutant);
    if (seed === undefined) survivors += 1;
    const verdict = seed === undefined ? `SURVIVED ${SEEDS} seeds` : `found at seed ${seed}`;
    process.stdout.write(`${mutant.name.padEnd(45)} ${verdict.padEnd(24)} ${seconds.toFixed(0)} s\n`);
  }
  return survivors;
}
