import type { ReadPiece, SplittableSource, WatermarkEstimator } from "beamkeeper";

/** A record of a feed, there from a moment on. */
export interface FeedRecord {
  readonly value: string;
  readonly atMs: number;
  readonly timestampMs: number;
}

/** How far a feed was read: the restriction. */
export interface FeedPlace {
  readonly feed: string;
  readonly next: number;
}

export interface FeedOptions {
  readonly now: () => number;
  readonly everyMs?: number;
  /** Records in a piece. Default: 2. */
  readonly piece?: number;
  readonly watermark?: WatermarkEstimator;
  /** Ends a feed after so many records. Default: it has no end. */
  readonly endsAfter?: number;
  readonly truncate?: SplittableSource<string, FeedPlace, string>["truncate"];
  /** Called before each piece. */
  readonly onPiece?: (place: FeedPlace) => void;
  readonly name?: string;
}

/** Feeds that grow as time goes by, asked again and again for what is new. An element names some, with commas between. */
export function feedSource(
  feeds: Readonly<Record<string, readonly FeedRecord[]>>,
  options: FeedOptions,
): SplittableSource<string, FeedPlace, string> {
  const { now, everyMs = 1_000, piece = 2, watermark, endsAfter, truncate, onPiece, name = "feed" } = options;
  return {
    name,
    unbounded: true,
    ...(watermark ? { watermark } : {}),
    ...(truncate ? { truncate } : {}),
    split: (names) => names.split(",").map((feed) => ({ feed, next: 0 })),
    *read({ feed, next }): Generator<ReadPiece<FeedPlace, string>> {
      const there = feeds[feed]!.filter(({ atMs }) => atMs <= now()).slice(0, endsAfter);
      for (let at = next; at < there.length; at += piece) {
        onPiece?.({ feed, next: at });
        const records = there.slice(at, at + piece);
        const end = at + records.length;
        yield {
          records: records.map(({ value }) => value),
          timestampsMs: records.map(({ timestampMs }) => timestampMs),
          rest: end === endsAfter ? undefined : { feed, next: end },
          watermarkMs: records.at(-1)!.timestampMs,
        };
        if (end === endsAfter) return;
      }
      onPiece?.({ feed, next: there.length });
      yield { records: [], rest: { feed, next: there.length }, resumeAfterMs: everyMs };
    },
  };
}

/** `count` records of a feed, one every `everyMs`, each with its own time. */
export function feedOf(name: string, count: number, everyMs: number): FeedRecord[] {
  return Array.from({ length: count }, (_, index) => {
    const atMs = index * everyMs;
    return { value: `${name}${index}`, atMs, timestampMs: atMs };
  });
}
