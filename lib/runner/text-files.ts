import type { BoundedWindow, CompiledPipeline, Pane, SinkEffect } from "../beam/api";
import { pathHash } from "../checkpoint/blobs";
import { reading } from "../checkpoint/commit";
import { type FileStore, OutputNameError, TemporaryFileGoneError } from "../checkpoint/files";
import type { ScopeLayout } from "../checkpoint/layout";
import { decodeOutput, encodeOutput, type FinalizationEntry, type OutputEntry } from "../checkpoint/records";
import { TEXT_SINK, type TextFilePayload } from "../io/write-to-text";
import { MultiError, NoNodeError, type Op, type ZooKeeperClient } from "../zookeeper";

export interface ShardName {
  readonly stage: string;
  readonly shard: number;
}

/** Who writes: temporary files and their entries carry the shard, the number of the commit, and its id. */
export interface CommitName extends ShardName {
  readonly number: number;
  readonly id: string;
}

/** An entry of the commit that waits for what comes after it, by the name of its znode. */
export interface NamedEntry<E> {
  readonly name: string;
  readonly entry: E;
}

/** Files that are written under temporary names and wait for the commit. */
export interface PendingFiles {
  readonly entries: readonly NamedEntry<OutputEntry>[];
  /** What the commit contains for them. */
  readonly ops: readonly Op[];
}

/**
 * What the temporary names of one shard begin with. Pipelines, roots and epochs may share a folder, so the prefix
 * is made from the whole path of the shard: one shard never takes another's file for its own. The hash has one
 * length, so no prefix is the beginning of another and no name is too long for a file system.
 */
export function shardPrefix(scope: ScopeLayout, { stage, shard }: ShardName): string {
  return `${pathHash(scope.shard(stage, shard).head)}.`;
}

/**
 * A final name as Beam's default policy for windowed writes: prefix, window, pane where there is more than one,
 * shard of shards. The pane is left out where it is the only one of its window. The run of a bounded pipeline comes
 * behind the prefix, since every run may write the same windows.
 */
export function finalName(payload: TextFilePayload, window: BoundedWindow, pane: Pane, run?: string): string {
  const digits = (value: number): string => String(value).padStart(5, "0");
  const parts = run === undefined ? [payload.prefix] : [payload.prefix, run];
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

/** Refuses a pipeline whose text this store cannot take, before anything runs. Throws OutputNameError. */
export function checkOutputs({ name, sinks }: CompiledPipeline, files: FileStore): void {
  for (const { sink, transform, config } of sinks) {
    if (sink !== TEXT_SINK) continue;
    try {
      // What is added to a prefix ends the last part of its path.
      files.checkName(`${(config as { prefix: string }).prefix}-00000-of-00001`);
    } catch (error) {
      if (!(error instanceof OutputNameError)) throw error;
      throw new OutputNameError(`pipeline "${name}", ${transform}: ${error.message}`, { cause: error });
    }
  }
}

/** Writes the files of a bundle under temporary names; nothing is visible yet. */
export async function writeFiles(
  files: FileStore,
  scope: ScopeLayout,
  commit: CommitName,
  effects: readonly SinkEffect[],
  run?: string,
): Promise<PendingFiles> {
  const entries = effects.map((effect, index) => {
    const final = finalName(effect.payload as TextFilePayload, effect.window, effect.pane, run);
    files.checkName(final);
    const name = `${shardPrefix(scope, commit)}${commit.number}.${commit.id}.${index}`;
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
 * Gives committed files their final names, removes their entries, and then the temporary files. Each step may be
 * repeated, so a process that dies in between leaves work for the next, never damage: as long as there is an entry,
 * there is the temporary file or the final one. False where the generation moved on, which leaves the entries.
 */
export async function publishFiles(
  client: ZooKeeperClient,
  files: FileStore,
  scope: ScopeLayout,
  checks: readonly Op[],
  entries: PendingFiles["entries"],
): Promise<boolean> {
  for (const { name, entry } of entries) {
    try {
      await files.publish(entry.temporary, entry.final);
    } catch (error) {
      const isRemoved = async () => !(await reading(client, () => client.exists(`${scope.outputs}/${name}`)));
      // Whoever removed the temporary file had published it and removed the entry before.
      if (!(error instanceof TemporaryFileGoneError && (await isRemoved()))) throw error;
    }
  }
  const paths = entries.map(({ name }) => `${scope.outputs}/${name}`);
  if (!(await removeEntries(client, checks, paths))) return false;
  for (const { entry } of entries) await files.removeTemporary(entry.temporary);
  return true;
}

/**
 * One multi: the scope's checks, delete of the entries. A reply that is lost is asked for again; an entry that is gone
 * was removed by our own lost multi or by another invocation. A generation that moved on leaves the entries to the
 * next invocation, and the answer is false.
 */
export async function removeEntries(
  client: ZooKeeperClient,
  checks: readonly Op[],
  paths: readonly string[],
): Promise<boolean> {
  for (let left = paths; left.length > 0; ) {
    const deletes = left.map((path): Op => ({ type: "delete", path }));
    try {
      await reading(client, () => client.multi([...checks, ...deletes]));
      return true;
    } catch (error) {
      if (!(error instanceof MultiError)) throw error;
      if (error.index < checks.length) return false;
      if (!(error.cause instanceof NoNodeError)) throw error;
      left = left.filter((_, index) => index !== error.index - checks.length);
    }
  }
  return true;
}

/** Publishes what an earlier invocation of this shard committed and did not publish; the other entries are the result. */
export async function publishLeftOver(
  client: ZooKeeperClient,
  files: FileStore,
  scope: ScopeLayout,
  checks: readonly Op[],
  owner: ShardName,
): Promise<NamedEntry<FinalizationEntry>[]> {
  const prefix = shardPrefix(scope, owner);
  const { children } = await reading(client, () => client.getChildren(scope.outputs));
  const texts: NamedEntry<OutputEntry>[] = [];
  const others: NamedEntry<FinalizationEntry>[] = [];
  for (const name of children.filter((child) => child.startsWith(prefix))) {
    const path = `${scope.outputs}/${name}`;
    try {
      const { data } = await reading(client, () => client.getData(path));
      const entry = decodeOutput(data, path);
      if ("finalizer" in entry) others.push({ name, entry });
      else texts.push({ name, entry });
    } catch (error) {
      if (!(error instanceof NoNodeError)) throw error;
    }
  }
  await publishFiles(client, files, scope, checks, texts);
  return others;
}

/**
 * Removes temporary files of this shard that no commit refers to any more: their number has passed, and their
 * entry is not among the outputs. To be called after {@link publishLeftOver}.
 */
export async function removeAbandoned(
  files: FileStore,
  scope: ScopeLayout,
  owner: ShardName,
  committed: number,
): Promise<void> {
  const prefix = shardPrefix(scope, owner);
  for (const name of await files.listTemporary(prefix)) {
    const number = Number(name.slice(prefix.length).split(".")[0]);
    if (number <= committed) await files.removeTemporary(name);
  }
}
