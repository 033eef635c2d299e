import type { CurrentGeneration } from "../checkpoint/scope";
import type { ZooKeeperClient } from "../zookeeper";
import { type FedInbox, shardOfKey } from "./appends";
import { type BatchParts, type BatchState, firstToTell } from "./batch";

/** A commit of the relay that is being put together or under way, and may yet come to nothing. */
export interface CommitAhead {
  /** Of the cursor, once it is committed. */
  readonly number: number;
  /** Shards that get segments, as far as that is known. */
  readonly fed: readonly Pick<FedInbox, "stage" | "shard">[];
}

export interface CommitTellerOptions {
  readonly client: ZooKeeperClient;
  readonly consumers: readonly string[];
  readonly limits: { readonly segmentSizeBytes: number };
  /** Called as soon as it is known that a commit with elements follows, and again when it is sent. */
  readonly onAhead?: (commit: CommitAhead) => void;
}

/** Tells who is going to get segments, so that the call is on its way while the commit is. */
export class CommitTeller {
  constructor(private readonly options: CommitTellerOptions) {}

  /**
   * The commit of this number is going to be put together at once from what was read. Only what was read first is looked
   * at: where more was, that is in time when the commit is sent.
   */
  read(number: number, current: CurrentGeneration, parts: BatchParts, state: BatchState): void {
    const { consumers, limits, onAhead } = this.options;
    const changes = onAhead ? firstToTell(parts, state) : [];
    const [first] = changes;
    // What goes to a blob is written there before the commit is sent.
    if (!first || changes.some(({ data }) => data && data.length > limits.segmentSizeBytes / 2)) return;
    const { path } = first;
    this.tell({
      number,
      fed: consumers.map((stage) => ({ stage, shard: shardOfKey(current, stage, path) })),
    });
  }

  /** The commit is sent. */
  sent(number: number, fed: readonly FedInbox[]): void {
    if (fed.length > 0) this.tell({ number, fed });
  }

  /** Where no server can be reached, a commit is not on its way. */
  private tell(commit: CommitAhead): void {
    const { client, onAhead } = this.options;
    if (client.state === "connected") onAhead?.(commit);
  }
}
