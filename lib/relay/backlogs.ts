import type { Upstream } from "../checkpoint/records";

/** A stage of the graph, in the order in which data flows. */
interface Stage {
  readonly id: string;
  readonly upstream: readonly Upstream[];
}

/**
 * How many segments wait in each inbox, as far as replies and appends tell, and who has to stop feeding them. A stage
 * with an inbox above `max` holds back the stages that feed it, until all its inboxes are at half of that; a source is
 * held back by every stage that its data gets to.
 *
 * Nothing waits for itself: the graph has no cycles, so of the stages that hold others back the last one is held by
 * none; its shards have something waiting, so they are called, and its inboxes fall.
 */
export class Backlogs {
  private readonly counts = new Map<string, Map<number, number>>();
  private readonly over = new Set<string>();
  private readonly below: ReadonlyMap<string, readonly string[]>;

  constructor(
    private readonly stages: readonly Stage[],
    private readonly max: number,
  ) {
    this.below = new Map(stages.map(({ id }) => [id, readersOf(stages, "stage", id)]));
  }

  /** More segments were appended. */
  appended(stage: string, shard: number, segments: number): void {
    this.set(stage, shard, (this.counts.get(stage)?.get(shard) ?? 0) + segments);
  }

  /** So many wait now. */
  set(stage: string, shard: number, segments: number): void {
    const counts = this.counts.get(stage) ?? new Map<number, number>();
    this.counts.set(stage, counts);
    counts.set(shard, segments);
    if (segments > this.max) this.over.add(stage);
    else if (this.over.has(stage) && Math.max(...counts.values()) <= this.max / 2) this.over.delete(stage);
  }

  /** Whether the stage has to wait, because one that it feeds is behind. */
  holdsStage(stage: string): boolean {
    return this.over.size > 0 && (this.below.get(stage) ?? []).some((id) => this.over.has(id));
  }

  /** Whether the source has to wait, because a stage that its data gets to is behind. */
  holdsSource(source: string): boolean {
    if (this.over.size === 0) return false;
    const reached = new Set<string>();
    const reach = (ids: readonly string[]): void => {
      for (const id of ids) {
        if (reached.has(id)) continue;
        reached.add(id);
        reach(this.below.get(id) ?? []);
      }
    };
    reach(readersOf(this.stages, "source", source));
    return [...reached].some((id) => this.over.has(id));
  }
}

function readersOf(stages: readonly Stage[], type: Upstream["type"], id: string): string[] {
  return stages
    .filter(({ upstream }) => upstream.some((from) => from.type === type && from.id === id))
    .map((stage) => stage.id);
}
