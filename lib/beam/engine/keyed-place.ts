import type { Due } from "./due-heap";
import { expiryWatermark } from "./pane-cell";
import type { Pane } from "./panes";
import type { RowTimes } from "./rows";
import { GLOBAL_WINDOW_MAX_TIMESTAMP_MS, MAX_TIMESTAMP_MS } from "./time";
import type { Windowing } from "./windowing";
import { maxTimestamp, type Window } from "./windows";

export type TimeDomain = "event" | "processing";

/** What of a stateful transform the engine has to know. */
export interface KeyedPlan {
  readonly windowing: Windowing;
  /** Elements are processed in the order of their timestamps. Beam model: `RequiresTimeSortedInput`. */
  readonly isSorted: boolean;
  /** Something is called when a window expires. Beam model: `OnWindowExpiration`. */
  readonly hasExpiration: boolean;
  /** Of each timer that the transform declares, by its number. */
  readonly timers: readonly TimeDomain[];
}

/** A timer that is set. Beam model: `TimerData`. */
export interface Timer {
  /** Which of the declared ones. */
  readonly index: number;
  readonly tag: string;
  /** In its own time domain. */
  readonly timeMs: number;
  /** The timestamp of what it will give. */
  readonly outputMs: number;
  /** Whether it holds the output watermark at that timestamp. */
  readonly isHeld: boolean;
}

export interface KeyedElement {
  readonly value: unknown;
  readonly timestampMs: number;
  readonly pane: Pane;
}

/** An element that waits for its turn, with its place among those of the same time. */
export interface WaitingElement extends KeyedElement {
  readonly sequence: number;
}

/** The state cells of one key in one window, as one bundle sees them. */
export interface Cells<V> {
  readonly isEmpty: boolean;
  /** What is kept in the place's own row has changed. */
  readonly isChanged: boolean;
  clear(): void;
  /** Rows of their own that have changed, undefined for one that is removed. Called once, at the end of the bundle. */
  rowChanges(): Iterable<readonly [id: string, value: V | undefined]>;
}

/** What a place's own row tells. */
export interface PlaceRow<C> {
  readonly key: unknown;
  readonly window: Window;
  readonly cells: C;
  /** Of the next element that waits, and how many do. */
  readonly nextSequence: number;
  readonly waiting: number;
}

/**
 * How places are kept between bundles: as rows of whatever form. A place is a key in a window; it has a row of its own,
 * and one for each timer that is set, for each element that waits, and those of its cells.
 */
export interface KeyedCodec<V, C extends Cells<V>> {
  /** Equal keys and windows share it. */
  placeId(key: unknown, window: Window): string;
  /** Of a row of any kind. */
  placeOf(rowId: string): string;
  isElement(rowId: string): boolean;
  ownId(place: string): string;
  timerId(place: string, index: number, tag: string): string;
  elementId(place: string, timestampMs: number, sequence: number): string;
  /** The group of `Rows` that a place's timers are in. */
  timersOf(place: string): string;
  /** Of a place that has no row. */
  create(place: string, key: unknown, window: Window): PlaceRow<C>;
  decode(place: string, row: V): PlaceRow<C>;
  encode(place: PlaceRow<C>): V;
  decodeTimer(rowId: string, row: V): Timer;
  encodeTimer(timer: Timer): V;
  decodeElement(rowId: string, row: V): WaitingElement;
  encodeElement(element: WaitingElement): V;
}

interface DueAt<P> extends Due {
  readonly place: P;
}

export interface DueElement<P> extends DueAt<P> {
  readonly kind: "element";
  readonly element: WaitingElement;
}

export interface DueTimer<P> extends DueAt<P> {
  readonly kind: "timer";
  readonly timer: Timer;
}

export interface DueExpiry<P> extends DueAt<P> {
  readonly kind: "expiry";
}

export type PlaceDue<P> = DueElement<P> | DueTimer<P> | DueExpiry<P>;

/** A key in a window while a bundle works on it. */
export class OpenPlace<V, C extends Cells<V>> {
  readonly key: unknown;
  readonly window: Window;
  readonly cells: C;
  readonly expiry: DueExpiry<OpenPlace<V, C>>;
  /** Timers that are set, by `timerName`. */
  readonly timers = new Map<string, DueTimer<OpenPlace<V, C>>>();
  /** Those that this bundle has set, cleared or fired. */
  readonly changedTimers = new Map<string, Timer | undefined>();
  /** Elements that came in this bundle and wait. */
  readonly buffered: DueElement<OpenPlace<V, C>>[] = [];
  /** Not above the time of the first timer of each domain. */
  readonly earliestMs: Record<TimeDomain, number> = { event: Infinity, processing: Infinity };
  nextSequence: number;
  waiting: number;
  isRowChanged = false;
  /** The window has expired, and nothing is left. */
  isCollected = false;

  constructor(
    readonly id: string,
    /** Among the places of the shard, in the order in which they came. */
    readonly order: number,
    readonly isStored: boolean,
    row: PlaceRow<C>,
    windowing: Windowing,
  ) {
    this.key = row.key;
    this.window = row.window;
    this.cells = row.cells;
    this.nextSequence = row.nextSequence;
    this.waiting = row.waiting;
    this.expiry = {
      kind: "expiry",
      place: this,
      atMs: expiryWatermark(row.window, windowing),
      isOver: false,
    };
  }
}

export function timerName(index: number, tag: string): string {
  return tag === "" ? String(index) : `${index} ${tag}`;
}

/**
 * The smallest watermark at which all elements up to this time have come. Beam model: a timer fires, and a window
 * ends, when the watermark has passed its timestamp.
 */
export function passedWatermark(timestampMs: number): number {
  return timestampMs >= GLOBAL_WINDOW_MAX_TIMESTAMP_MS ? MAX_TIMESTAMP_MS : timestampMs + 1;
}

/** The last time that an event-time timer of the window can be set to: its end and the allowed lateness. */
export function lastTimerMs(window: Window, { allowedLatenessMs }: Windowing): number {
  return Math.min(maxTimestamp(window) + allowedLatenessMs, MAX_TIMESTAMP_MS);
}

/** The smallest watermark at which a sorted transform gets the element: from then on an earlier one would be late. */
export function releaseWatermark(timestampMs: number, { allowedLatenessMs }: Windowing): number {
  return Math.min(passedWatermark(timestampMs) + allowedLatenessMs, MAX_TIMESTAMP_MS);
}

/** When a timer fires, in its domain. */
export function timerFiresAt({ timeMs }: Timer, domain: TimeDomain): number {
  return domain === "event" ? passedWatermark(timeMs) : timeMs;
}

export function timesOfTimer(timer: Timer, { timers }: KeyedPlan): RowTimes {
  // A timer that the transform no longer declares fires once and for nothing.
  const domain = timers[timer.index] ?? "event";
  const atMs = timerFiresAt(timer, domain);
  return {
    timerMs: domain === "event" ? atMs : Infinity,
    clockMs: domain === "processing" ? atMs : Infinity,
    holdMs: timer.isHeld ? timer.outputMs : Infinity,
  };
}

export function timesOfElement(timestampMs: number, { windowing }: KeyedPlan): RowTimes {
  return { timerMs: releaseWatermark(timestampMs, windowing), holdMs: timestampMs, clockMs: Infinity };
}

/** A window whose expiry calls user code holds the watermark, so that what it gives is late nowhere. */
export function timesOfPlace(window: Window, { windowing, hasExpiration }: KeyedPlan): RowTimes {
  const holdMs = hasExpiration ? lastTimerMs(window, windowing) : Infinity;
  return { timerMs: expiryWatermark(window, windowing), holdMs, clockMs: Infinity };
}
