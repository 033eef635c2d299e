import type { BoundedWindow, Pane, SinkEffect } from "../beam/api";
import { reading } from "../checkpoint/commit";
import type { FileStore } from "../checkpoint/files";
import { encodeName, type ScopeLayout } from "../checkpoint/layout";
import { decodeOutput, encodeOutput, type OutputEntry } from "../checkpoint/records";
import type { TextFilePayload } from "../io/write-to-text";
import { MultiError, NoNodeError, type Op, type ZooKeeperClient } from "../zookeeper";

/** Who writes: temporary files and their entries carry the shard, the number of the commit, and its id. */
export interface CommitName {
  readonly stage: string;
  readonly shard: number;
  readonly number: number;
  readonly id: string;
}

/** Files that are written under temporary names and wait for the commit. */
export interface PendingFiles {
  readonly entries: readonly { readonly name: string; readonly entry: OutputEntry }[];
  /** What the commit contains for them. */
  readonly ops: readonly Op[];
}

function shardPrefix(stage: string, shard: number): string {
  return `${encodeName(stage)}.${shard}.`;
}

/**
 * A final name as Beam's default policy for windowed writes: prefix, window, pane where there is more than one,
 * shard of shards. The pane is left out where it is the only one of its window.
 */
export function finalName(payload: TextFilePayload, window: BoundedWindow, pane: Pane): string {
  const digits = (value: number): string => String(value).padStart(5, "0");
  const parts = [payload.prefix];
  if (window.kind === "interval") parts.push(isoTime(window.startMs), isoTime(window.endMs));
  if (!(pane.isFirst && pane.isLast)) parts.push(paneName(pane));
  parts.push(`${digits(payload.shard)}-of-${digits(payload.shards)}`);
  return parts.join("-") + payload.suffix;
}

function isoTime(ms: number): string {
  return new Date(ms).toISOString();
}

function paneName(pane: Pane): string {
  return `pane-${pane.index}${pane.timing === "LATE" ? "-late" : ""}${pane.isLast ? "-last" : ""}`;
}

/** Writes the files of a bundle under temporary names; nothing is visible yet. */
export async function writeFiles(
  files: FileStore,
  scope: ScopeLayout,
  commit: CommitName,
  effects: readonly SinkEffect[],
): Promise<PendingFiles> {
  const entries = effects.map((effect, index) => {
    const final = finalName(effect.payload as TextFilePayload, effect.window, effect.pane);
    files.checkName(final);
    const name = `${shardPrefix(commit.stage, commit.shard)}${commit.number}.${commit.id}.${index}`;
    return { name, entry: { temporary: name, final } };
  });
  for (const [index, effect] of effects.entries()) {
    const { lines } = effect.payload as TextFilePayload;
    await files.writeTemporary(
      entries[index]!.name,
      Buffer.from(lines.map((line) => `${line}\n`).join(""), "utf8"),
    );
  }
  const ops = entries.map(
    ({ name, entry }): Op => ({
      type: "create",
      path: `${scope.outputs}/${name}`,
      data: encodeOutput(entry),
    }),
  );
  return { entries, ops };
}

/**
 * Gives committed files their final names and removes their entries. Each step may be repeated, so a process
 * that dies in between leaves work for the next, never damage.
 */
export async function publishFiles(
  client: ZooKeeperClient,
  files: FileStore,
  scope: ScopeLayout,
  generationCheck: Op,
  entries: PendingFiles["entries"],
): Promise<void> {
  if (entries.length === 0) return;
  for (const { entry } of entries) await files.publish(entry.temporary, entry.final);
  const deletes = entries.map(({ name }): Op => ({ type: "delete", path: `${scope.outputs}/${name}` }));
  try {
    await client.multi([generationCheck, ...deletes]);
  } catch (error) {
    // The entries stay for the next invocation, which finds the files in place; another may have removed them.
    const harmless =
      error instanceof MultiError ||
      (error instanceof Error && "outcome" in error && error.outcome !== "terminal");
    if (!harmless) throw error;
  }
}

/** Publishes what an earlier invocation of this shard committed and did not publish. */
export async function publishLeftOver(
  client: ZooKeeperClient,
  files: FileStore,
  scope: ScopeLayout,
  generationCheck: Op,
  owner: { readonly stage: string; readonly shard: number },
): Promise<void> {
  const prefix = shardPrefix(owner.stage, owner.shard);
  const { children } = await reading(client, () => client.getChildren(scope.outputs));
  const entries: { name: string; entry: OutputEntry }[] = [];
  for (const name of children.filter((child) => child.startsWith(prefix))) {
    const path = `${scope.outputs}/${name}`;
    try {
      const { data } = await reading(client, () => client.getData(path));
      entries.push({ name, entry: decodeOutput(data, path) });
    } catch (error) {
      if (!(error instanceof NoNodeError)) throw error;
    }
  }
  await publishFiles(client, files, scope, generationCheck, entries);
}

/**
 * Removes temporary files of this shard that no commit refers to any more: their number has passed, and their
 * entry is not among the outputs. To be called after {@link publishLeftOver}.
 */
export async function removeAbandoned(
  files: FileStore,
  owner: { stage: string; shard: number },
  committed: number,
): Promise<void> {
  const prefix = shardPrefix(owner.stage, owner.shard);
  for (const name of await files.listTemporary(prefix)) {
    const number = Number(name.slice(prefix.length).split(".")[0]);
    if (number <= committed) await files.removeTemporary(name);
  }
}
