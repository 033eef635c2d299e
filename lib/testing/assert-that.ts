import { isDeepStrictEqual } from "node:util";
import type { PCollection } from "apache-beam";
import type { BoundedWindow, Pane, SinkEffect } from "../beam/api";
import { elementText } from "../beam/operators/user-code";
import { writePrimitive } from "../beam/primitives";

/** What `assertThat` expected and did not find. */
export class PipelineAssertionError extends Error {
  override readonly name = "PipelineAssertionError";
}

interface Assertion {
  readonly sink: string;
  readonly check: (effects: readonly SinkEffect[]) => void;
}

let assertions: Assertion[] | undefined;

/**
 * Says what a PCollection has to hold when the test has run; to be called in the `build` of `runTest`. Beam: `PAssert`.
 */
export function assertThat<T>(collection: PCollection<T>): CollectionAssert<T> {
  if (assertions === undefined) throw new Error("assertThat belongs into the build of runTest");
  const sink = `assertThat-${assertions.length + 1}`;
  collection.apply(writePrimitive<T>("assertThat", { sink, config: {}, toPayload: (element: T) => element }));
  const own = assertions;
  return new CollectionAssert<T>(
    (check) => own.push({ sink, check }),
    [],
    () => true,
  );
}

type IsMeant = (effect: SinkEffect) => boolean;

export class CollectionAssert<T> {
  constructor(
    private readonly add: (check: Assertion["check"]) => void,
    private readonly where: readonly string[],
    private readonly isMeant: IsMeant,
  ) {}

  /** The elements of one window alone: "global", or [startMs, endMs). */
  inWindow(window: "global" | readonly [startMs: number, endMs: number]): CollectionAssert<T> {
    const isIt = (other: BoundedWindow): boolean =>
      window === "global"
        ? other.kind === "global"
        : other.kind === "interval" && other.startMs === window[0] && other.endMs === window[1];
    return this.only(`in the window ${window}`, (effect) => isIt(effect.window));
  }

  /** The elements of early, on-time or late panes alone. */
  inPanes(timing: Exclude<Pane["timing"], "UNKNOWN">): CollectionAssert<T> {
    return this.only(`in ${timing} panes`, ({ pane }) => pane.timing === timing);
  }

  /** The elements of the panes with this index alone, counted from 0 for each key and window. */
  inPane(index: number): CollectionAssert<T> {
    return this.only(`in pane ${index}`, ({ pane }) => pane.index === index);
  }

  /** The elements with this event time alone, in milliseconds. */
  atTime(timestampMs: number): CollectionAssert<T> {
    return this.only(`at ${timestampMs} ms`, (effect) => effect.timestampMs === timestampMs);
  }

  /** These elements, as often as they are given, and no others. Matchers as Jest's `expect.anything()` may stand for elements. */
  containsInAnyOrder(expected: readonly unknown[]): void {
    this.satisfies((elements) => {
      const unexpected = [...elements];
      const missing = expected.filter((each) => {
        const index = unexpected.findIndex((element) => matches(element, each));
        if (index >= 0) unexpected.splice(index, 1);
        return index < 0;
      });
      if (missing.length + unexpected.length === 0) return;
      throw new PipelineAssertionError(
        `${[...missing.map((each) => `missing ${elementText(each)}`), ...unexpected.map((each) => `unexpected ${elementText(each)}`)].join("\n")}`,
      );
    });
  }

  isEmpty(): void {
    this.containsInAnyOrder([]);
  }

  /** Runs any check on the elements, in the order in which they came; it fails by throwing. */
  satisfies(check: (elements: readonly T[]) => void): void {
    this.add((effects) => {
      try {
        check(effects.filter(this.isMeant).map(({ payload }) => payload as T));
      } catch (error) {
        if (!(error instanceof PipelineAssertionError) || this.where.length === 0) throw error;
        throw new PipelineAssertionError(`${this.where.join(", ")}:\n${error.message}`);
      }
    });
  }

  private only(where: string, isMeant: IsMeant): CollectionAssert<T> {
    return new CollectionAssert<T>(
      this.add,
      [...this.where, where],
      (effect) => this.isMeant(effect) && isMeant(effect),
    );
  }
}

function matches(element: unknown, expected: unknown): boolean {
  const matcher = expected as { asymmetricMatch?: unknown } | null | undefined;
  if (typeof matcher?.asymmetricMatch === "function") return matcher.asymmetricMatch(element) === true;
  return isDeepStrictEqual(element, expected);
}

/** The assertions on what `build` builds. */
export function collectAssertions<R>(build: () => R): { result: R; assertions: readonly Assertion[] } {
  const before = assertions;
  const found: Assertion[] = [];
  assertions = found;
  try {
    return { result: build(), assertions: found };
  } finally {
    assertions = before;
  }
}
