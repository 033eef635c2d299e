import type { Finalization } from "../api";
import { decodeValue, encodeValue } from "../coders/value-coder";
import { type BundleFinalizer, finalizerKeys } from "../finalizer";
import type { Graph } from "../graph/node";

/** What a bundle's transforms have asked to be told of its commit, by finaliser. */
export class Finalizations {
  private readonly tokens = new Map<string, Buffer[]>();

  /** Encoded at once, so that what has no encoding is known for the element that it came from. */
  add(transform: string, key: string, token: unknown): void {
    const id = finalizerId(transform, key);
    const tokens = this.tokens.get(id);
    const encoded = encodeValue(token);
    if (tokens === undefined) this.tokens.set(id, [encoded]);
    else tokens.push(encoded);
  }

  all(): Finalization[] {
    return [...this.tokens].map(([finalizer, tokens]) => ({ finalizer, tokens: encodeValue(tokens) }));
  }
}

/** Every finaliser of a pipeline, by the name that committed tokens carry. */
export function finalizersOf(graph: Graph): ReadonlyMap<string, BundleFinalizer<unknown>> {
  const found = new Map<string, BundleFinalizer<unknown>>();
  for (const { name, work } of graph.nodes) {
    if (!("context" in work)) continue;
    for (const key of finalizerKeys(work.context))
      found.set(finalizerId(name, key), (work.context as Record<string, BundleFinalizer<unknown>>)[key]!);
  }
  return found;
}

function finalizerId(transform: string, key: string): string {
  return `${transform}:${key}`;
}

/** Calls a finaliser with what a committed bundle kept for it. Rejects with what it throws. */
export async function finalize(finalizer: BundleFinalizer<unknown>, tokens: Uint8Array): Promise<void> {
  await finalizer.finalize((decodeValue(tokens) as Uint8Array[]).map(decodeValue));
}
