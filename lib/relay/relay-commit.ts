import type { SnapshotProgress } from "../checkpoint/records";
import type { CurrentGeneration } from "../checkpoint/scope";
import type { FedInbox } from "./appends";

/** What a commit of the relay did. */
export interface RelayCommit {
  readonly sourceId: string;
  /** Of the cursor. */
  readonly number: number;
  readonly zxid: bigint;
  /** Of the ensemble that the source is on, when the reply came; where that is another one than the root's. */
  readonly sourceZxid?: bigint | undefined;
  /** The ensemble's time of the commit. */
  readonly mtimeMs: number;
  readonly watermarkMs: number;
  /** Shards that got segments. */
  readonly fed: readonly FedInbox[];
  /** How far a snapshot that was asked for is. */
  readonly snapshot?: SnapshotProgress | undefined;
  readonly code: CurrentGeneration["generation"]["code"];
  readonly elements: number;
  /** Values that could not be seen. */
  readonly missed: number;
  /** Events that shared a read with an earlier one of the same znode. */
  readonly coalesced: number;
}
