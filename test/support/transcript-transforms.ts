import type { Windowing } from "../../lib/beam/engine/windowing";
import type { FeedRecord } from "./feed-source";
import { mapping, type TestDoFn, toDoFn } from "./transcript-program";
import { toMs } from "./transcript-times";

/** The transform of a transcript that is one of a pipeline. */
export type Transform =
  /** `stateful`: see `TestDoFn`. */
  | { readonly kind: "stateful"; readonly doFn: TestDoFn }
  /** `side_input`: `view`, `default`, and the settings of the side input's windowing. */
  | {
      readonly kind: "side_input";
      readonly view: (typeof VIEWS)[number];
      readonly fallback: unknown;
      readonly windowing: Windowing;
    }
  /**
   * `read`: an unbounded source of `feeds`, each a list of records `[value, seconds at which it is there, timestamp]`.
   * `watermark`: manual (default), monotonic or wall_time; `resume_after`: seconds (default 1); `ends_after`: records of
   * each feed (default: it has no end); `truncate`: rest (what is there is read at a drain) or none (default).
   */
  | {
      readonly kind: "read";
      readonly feeds: Readonly<Record<string, readonly FeedRecord[]>>;
      readonly watermark: (typeof WATERMARKS)[keyof typeof WATERMARKS];
      readonly resumeAfterMs: number;
      readonly endsAfter: number | undefined;
      readonly truncatesToRest: boolean;
    };

const VIEWS = ["iterable", "singleton", "list", "map", "multimap"] as const;
const WATERMARKS = { manual: "manual", monotonic: "monotonic", wall_time: "wallTime" } as const;

type At = <T>(path: (string | number)[], read: () => T) => T;

/** @param windowingOf of settings that stand below a name. */
export function toTransform(
  spec: Readonly<Record<string, unknown>>,
  at: At,
  windowingOf: (settings: object, name: string) => Windowing,
): Transform | undefined {
  const kinds = ["stateful", "side_input", "read"].filter((kind) => spec[kind] !== undefined);
  const [kind] = kinds;
  if (kind === undefined) return undefined;
  if (kinds.length > 1) throw new Error(`a transcript has one transform, not ${kinds.join(" and ")}`);
  if (kind === "stateful") return at([kind], () => ({ kind, doFn: toDoFn(spec[kind]) }));
  if (kind === "side_input") {
    const { view = "list", default: fallback, ...settings } = mapping(spec[kind], kind);
    const windowing = windowingOf(settings, kind);
    return at([kind], () => ({ kind, view: oneOf(VIEWS, view, "the view"), fallback, windowing }));
  }
  return at(["read"], () => toRead(mapping(spec.read, "read")));
}

function toRead(spec: Readonly<Record<string, unknown>>): Transform {
  const { feeds, watermark = "manual", resume_after = 1, ends_after, truncate = "none", ...more } = spec;
  const unknown = Object.keys(more);
  if (unknown.length > 0) throw new Error(`read has no ${unknown.join(", ")}`);
  const names = Object.keys(WATERMARKS) as (keyof typeof WATERMARKS)[];
  return {
    kind: "read",
    feeds: Object.fromEntries(
      Object.entries(mapping(feeds, "feeds")).map(([name, records]) => [
        name,
        (records as [unknown, unknown, unknown][]).map(([value, from, timestamp = from]) => ({
          value: String(value),
          atMs: toMs(from),
          timestampMs: toMs(timestamp),
        })),
      ]),
    ),
    watermark: WATERMARKS[oneOf(names, watermark, "the watermark")],
    resumeAfterMs: toMs(resume_after),
    endsAfter: ends_after === undefined ? undefined : Number(ends_after),
    truncatesToRest: oneOf(["rest", "none"], truncate, "the truncation") === "rest",
  };
}

function oneOf<const T extends string>(names: readonly T[], given: unknown, what: string): T {
  const name = names.find((each) => each === given);
  if (name === undefined)
    throw new Error(`${what} ${JSON.stringify(given)} is unknown; there are ${names.join(", ")}`);
  return name;
}
