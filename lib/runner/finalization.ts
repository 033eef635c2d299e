import type { Finalization } from "../beam/api";
import type { ScopeLayout } from "../checkpoint/layout";
import { encodeOutput, type FinalizationEntry } from "../checkpoint/records";
import { scopeChecks } from "../checkpoint/scope";
import type { Op } from "../zookeeper";
import type { ShardContext } from "./shard-context";
import { type CommitName, type NamedEntry, removeEntries, shardPrefix } from "./text-files";

type NamedTokens = NamedEntry<FinalizationEntry>;

/** Tokens for finalisers as entries of the commit, so that who comes after a process that died finds them. */
export function keptTokens(
  scope: ScopeLayout,
  commit: CommitName,
  finalizations: readonly Finalization[],
): { readonly entries: readonly NamedTokens[]; readonly ops: readonly Op[] } {
  const entries = finalizations.map(({ finalizer, tokens }, index) => ({
    name: `${shardPrefix(scope, commit)}${commit.number}.${commit.id}.f${index}`,
    entry: { finalizer, tokens: Buffer.from(tokens).toString("base64") },
  }));
  const create = ({ name, entry }: NamedTokens): Op => {
    return { type: "create", path: `${scope.outputs}/${name}`, data: encodeOutput(entry) };
  };
  return { entries, ops: entries.map(create) };
}

/** Calls finalisers with what was committed for them; an entry is removed once its finaliser has returned. False as of files. */
export async function finalizeBundle(
  { client, current, pipeline }: Pick<ShardContext, "client" | "current" | "pipeline">,
  entries: readonly NamedTokens[],
): Promise<boolean> {
  for (const { name, entry } of entries) {
    const { finalizer, tokens } = entry;
    await pipeline.finalize({ finalizer, tokens: Buffer.from(tokens, "base64") });
    if (!(await removeEntries(client, scopeChecks(current), [`${current.scope.outputs}/${name}`])))
      return false;
  }
  return true;
}
