import type { KeyedElement } from "./appends";
import type { ReadZnode } from "./change-reader";
import type { ManifestUpdate } from "./manifest";

/** What one commit of the relay is to append, and what it delivers by that. */
export interface Batch {
  readonly elements: KeyedElement[];
  readonly updates: ManifestUpdate[];
  readonly delivered: ReadZnode[];
  /** The latest mark when the reads were sent. */
  readonly order: number;
  missed: number;
  coalesced: number;
  /** Of the commit's multi. */
  bytes: number;
  /** Of the elements that go to blobs. */
  blobBytes: number;
}

export function emptyBatch(order: number): Batch {
  return {
    ...{ elements: [], updates: [], delivered: [], order },
    ...{ missed: 0, coalesced: 0, bytes: 0, blobBytes: 0 },
  };
}
