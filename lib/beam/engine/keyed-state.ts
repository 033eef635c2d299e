import type { KeyId } from "./aggregation";
import { DueHeap } from "./due-heap";
import {
  type Cells,
  type DueElement,
  type DueTimer,
  type KeyedCodec,
  type KeyedElement,
  type KeyedPlan,
  OpenPlace,
  type PlaceDue,
  type PlaceRow,
  releaseWatermark,
  type TimeDomain,
  type Timer,
  timerFiresAt,
  timerName,
  timesOfElement,
  timesOfPlace,
  timesOfTimer,
} from "./keyed-place";
import { expiryWatermark } from "./pane-cell";
import { type DueRows, NO_TIMES, REMOVED, type RowChange, type Rows } from "./rows";
import { type Window, windowName } from "./windows";

/** The state of one shard of a stateful stage. See `Rows`. */
export interface KeyedState<V> {
  /** The highest input watermark that the shard has acted on; a lower one never takes it back. */
  readonly watermarkMs: number;
  /** The latest processing time that the shard was told; undefined before the first. */
  readonly nowMs: number | undefined;
  readonly rows: Rows<V>;
}

/** The user's code. It may set and clear timers of the place that it is called for. */
export interface KeyedCalls<P> {
  process(place: P, element: KeyedElement): void;
  timer(place: P, timer: Timer): void;
  /** Only where the plan has an expiration. */
  expire(place: P): void;
}

// New places come after all that the state has.
const NEW_PLACES = 2 ** 52;

/** Whoever sets a timer for a time that has come, whenever it fires, would never end. */
const MOST_IN_A_ROW = 10_000;

/**
 * Stateful processing as one bundle sees it: state and timers of each key in each window.
 *
 * Elements are processed as they come, or, where the plan is sorted, when the watermark has passed their timestamps
 * (and the allowed lateness), in that order. Timers fire in the order of time; before an element is processed its
 * key's due timers have fired, so that nothing depends on how bundles were cut. What they set that is due already
 * fires in turn. When the window has expired, its last timers fire, the expiration is called, and state and timers
 * are gone. Elements that come later are dropped. Beam model: `StatefulDoFnRunner`.
 */
export class TentativeKeyedState<V, C extends Cells<V>> {
  /** Places that this bundle has looked at, by id. */
  private readonly places = new Map<string, OpenPlace<V, C>>();
  /** The same by window and key's identity, for the inner loop. */
  private readonly byWindow = new Map<string, Map<KeyId, OpenPlace<V, C>>>();
  private lastWindow: Window | undefined;
  private lastPlaces = new Map<KeyId, OpenPlace<V, C>>();
  /** Rows whose times the open places know better. */
  private readonly claimed = new Set<string>();
  private readonly elementRows = new Map<string, RowChange<V>>();
  private readonly untouched: Record<TimeDomain, DueRows>;
  private readonly heaps = { event: newHeap<V, C>(), processing: newHeap<V, C>() };
  /** Up to where the heaps hold what the open places have. */
  private readonly listedMs: Record<TimeDomain, number> = { event: -Infinity, processing: -Infinity };
  private watermark: number;
  private now: number | undefined;
  private came = 0;
  droppedLate = 0;

  constructor(
    private readonly plan: KeyedPlan,
    private readonly state: KeyedState<V>,
    private readonly codec: KeyedCodec<V, C>,
    private readonly calls: KeyedCalls<OpenPlace<V, C>>,
    inputWatermarkMs: number,
    nowMs?: number,
  ) {
    this.watermark = Math.max(state.watermarkMs, inputWatermarkMs);
    this.now = latest(state.nowMs, nowMs);
    this.untouched = {
      event: state.rows.due("timerMs", this.claimed),
      processing: state.rows.due("clockMs", this.claimed),
    };
  }

  /** The stage's input watermark. */
  get watermarkMs(): number {
    return this.watermark;
  }

  /** The processing time; undefined where nobody has told it. */
  get nowMs(): number | undefined {
    return this.now;
  }

  add(keyId: KeyId, key: unknown, element: KeyedElement, window: Window): void {
    const due = this.plan.isSorted
      ? Math.min(
          releaseWatermark(element.timestampMs, this.plan.windowing),
          expiryWatermark(window, this.plan.windowing),
        )
      : expiryWatermark(window, this.plan.windowing);
    if (due <= this.watermark) {
      this.droppedLate++;
      return;
    }
    const place = this.placeFor(keyId, key, window);
    if (this.plan.isSorted) this.buffer(place, element);
    else {
      this.fireDue(place);
      this.calls.process(place, element);
    }
  }

  /** A timer that was set aside when it fired fires after all; late where its window has expired meanwhile. */
  replay(keyId: KeyId, key: unknown, window: Window, timer: Timer): void {
    if (expiryWatermark(window, this.plan.windowing) <= this.watermark) this.droppedLate++;
    else this.calls.timer(this.placeFor(keyId, key, window), timer);
  }

  setTimer(place: OpenPlace<V, C>, timer: Timer): void {
    const name = timerName(timer.index, timer.tag);
    const domain = this.plan.timers[timer.index]!;
    const before = place.timers.get(name);
    if (before !== undefined) before.isOver = true;
    const due = this.dueTimer(place, timer);
    place.timers.set(name, due);
    place.changedTimers.set(name, timer);
    if (due.atMs < place.earliestMs[domain]) place.earliestMs[domain] = due.atMs;
    if (due.atMs <= this.listedMs[domain]) this.heaps[domain].push(due);
  }

  clearTimer(place: OpenPlace<V, C>, index: number, tag: string): void {
    const name = timerName(index, tag);
    const before = place.timers.get(name);
    if (before === undefined) return;
    this.remove(place, name, before);
  }

  /** Releases elements, fires timers and collects windows, in the order of time, at most `limit`; true while more is due. */
  advance(watermarkMs: number, limit: number): boolean {
    this.watermark = Math.max(this.watermark, watermarkMs);
    return this.run("event", this.watermark, limit);
  }

  /** Fires processing-time timers, in the order of time, at most `limit`; true while more are due. */
  advanceClock(nowMs: number, limit: number): boolean {
    this.now = latest(this.now, nowMs)!;
    return this.run("processing", this.now, limit);
  }

  /** The state after the bundle. */
  result(): KeyedState<V> {
    const changes = new Map<string, RowChange<V>>(this.elementRows);
    for (const place of this.places.values()) this.addChanges(place, changes);
    return { watermarkMs: this.watermark, nowMs: this.now, rows: this.state.rows.with(changes) };
  }

  private addChanges(place: OpenPlace<V, C>, changes: Map<string, RowChange<V>>): void {
    const { plan, codec } = this;
    for (const [id, value] of place.cells.rowChanges())
      if (value !== undefined || this.isStored(id)) changes.set(id, { value, times: NO_TIMES });
    for (const [name, timer] of place.changedTimers) {
      const id = codec.timerId(place.id, ...partsOf(name));
      if (timer !== undefined)
        changes.set(id, { value: codec.encodeTimer(timer), times: timesOfTimer(timer, plan) });
      else if (this.isStored(id)) changes.set(id, REMOVED);
    }
    const isKept =
      !place.isCollected &&
      (plan.hasExpiration || !place.cells.isEmpty || place.timers.size > 0 || place.waiting > 0);
    const id = codec.ownId(place.id);
    if (!isKept) {
      if (place.isStored) changes.set(id, REMOVED);
    } else if (!place.isStored || place.isRowChanged || place.cells.isChanged)
      changes.set(id, { value: codec.encode(place), times: timesOfPlace(place.window, plan) });
  }

  private isStored(id: string): boolean {
    return this.state.rows.get(id) !== undefined;
  }

  private run(domain: TimeDomain, untilMs: number, limit: number): boolean {
    this.list(domain, untilMs);
    const heap = this.heaps[domain];
    for (let left = limit; ; ) {
      const next = heap.peek();
      // Of equal times the untouched come first to be opened, so that they are ordered among all.
      const row = this.untouched[domain].next(Math.min(untilMs, next?.atMs ?? untilMs));
      if (row !== undefined) {
        this.openRow(row);
        continue;
      }
      if (next === undefined) return false;
      if (left === 0) return true;
      left--;
      this.fire(next);
    }
  }

  /** Puts into the heap what of the open places has become due. */
  private list(domain: TimeDomain, untilMs: number): void {
    const from = this.listedMs[domain];
    if (untilMs <= from) return;
    this.listedMs[domain] = untilMs;
    const heap = this.heaps[domain];
    const push = (due: PlaceDue<OpenPlace<V, C>>) => {
      if (!due.isOver && due.atMs > from && due.atMs <= untilMs) heap.push(due);
    };
    for (const place of this.places.values()) {
      if (domain === "event") push(place.expiry);
      if (domain === "event") for (const waiting of place.buffered) push(waiting);
      if (place.earliestMs[domain] > untilMs) continue;
      for (const due of place.timers.values()) if (this.plan.timers[due.timer.index] === domain) push(due);
    }
  }

  private fire(due: PlaceDue<OpenPlace<V, C>>): void {
    const { place } = due;
    if (due.kind === "timer") {
      this.remove(place, timerName(due.timer.index, due.timer.tag), due);
      this.calls.timer(place, due.timer);
    } else if (due.kind === "element") {
      due.isOver = true;
      place.waiting--;
      place.isRowChanged = true;
      const { timestampMs, sequence } = due.element;
      const id = this.codec.elementId(place.id, timestampMs, sequence);
      if (this.isStored(id)) this.elementRows.set(id, REMOVED);
      else this.elementRows.delete(id);
      this.calls.process(place, due.element);
    } else {
      due.isOver = true;
      if (this.plan.hasExpiration) this.calls.expire(place);
      this.collect(place);
    }
  }

  private collect(place: OpenPlace<V, C>): void {
    place.isCollected = true;
    place.cells.clear();
    for (const [name, due] of place.timers) this.remove(place, name, due);
  }

  private remove(place: OpenPlace<V, C>, name: string, due: DueTimer<OpenPlace<V, C>>): void {
    due.isOver = true;
    place.timers.delete(name);
    place.changedTimers.set(name, undefined);
  }

  /** Fires the timers of one place that are due, the earliest first. */
  private fireDue(place: OpenPlace<V, C>): void {
    for (let fired = 0; ; fired++) {
      if (place.earliestMs.event > this.watermark && place.earliestMs.processing > (this.now ?? -Infinity))
        return;
      const due = this.firstDue(place);
      if (due === undefined) return;
      if (fired === MOST_IN_A_ROW)
        throw new Error(
          `timers of one key fired ${MOST_IN_A_ROW} times in a row, each setting the next for a time that has come already`,
        );
      this.fire(due);
    }
  }

  private firstDue(place: OpenPlace<V, C>): DueTimer<OpenPlace<V, C>> | undefined {
    const until = { event: this.watermark, processing: this.now ?? -Infinity };
    const earliest = { event: Infinity, processing: Infinity };
    let first: DueTimer<OpenPlace<V, C>> | undefined;
    for (const due of place.timers.values()) {
      const domain = this.plan.timers[due.timer.index]!;
      earliest[domain] = Math.min(earliest[domain], due.atMs);
      if (due.atMs <= until[domain] && (first === undefined || isBefore(due, first, this.plan))) first = due;
    }
    place.earliestMs.event = earliest.event;
    place.earliestMs.processing = earliest.processing;
    return first;
  }

  private buffer(place: OpenPlace<V, C>, element: KeyedElement): void {
    const { codec, plan } = this;
    const waiting = { ...element, sequence: place.nextSequence++ };
    place.waiting++;
    place.isRowChanged = true;
    const id = codec.elementId(place.id, waiting.timestampMs, waiting.sequence);
    const times = timesOfElement(waiting.timestampMs, plan);
    this.elementRows.set(id, { value: codec.encodeElement(waiting), times });
    const due = this.dueElement(place, waiting);
    place.buffered.push(due);
    if (due.atMs <= this.listedMs.event) this.heaps.event.push(due);
  }

  private placeFor(keyId: KeyId, key: unknown, window: Window): OpenPlace<V, C> {
    const places = this.placesIn(window);
    let place = places.get(keyId);
    if (place === undefined) {
      const id = this.codec.placeId(key, window);
      place = this.places.get(id) ?? this.open(id, () => this.codec.create(id, key, window));
      places.set(keyId, place);
    }
    return place;
  }

  private placesIn(window: Window): Map<KeyId, OpenPlace<V, C>> {
    if (window === this.lastWindow) return this.lastPlaces;
    const name = windowName(window);
    let places = this.byWindow.get(name);
    if (places === undefined) {
      places = new Map();
      this.byWindow.set(name, places);
    }
    this.lastWindow = window;
    this.lastPlaces = places;
    return places;
  }

  /** A place with a row that is due. */
  private openRow(rowId: string): void {
    const { codec } = this;
    const id = codec.placeOf(rowId);
    const place =
      this.places.get(id) ??
      this.open(id, () => {
        throw new Error("a timer or an element of a key has no row of the key");
      });
    this.claimed.add(rowId);
    if (!codec.isElement(rowId)) return;
    const due = this.dueElement(place, codec.decodeElement(rowId, this.state.rows.get(rowId)!));
    this.heaps.event.push(due);
  }

  private open(id: string, create: () => PlaceRow<C>): OpenPlace<V, C> {
    const { codec, plan } = this;
    const { rows } = this.state;
    const ownId = codec.ownId(id);
    const row = rows.get(ownId);
    const isStored = row !== undefined;
    const order = isStored ? rows.orderOf(ownId) : NEW_PLACES + this.came++;
    const place = new OpenPlace<V, C>(
      id,
      order,
      isStored,
      isStored ? codec.decode(id, row) : create(),
      plan.windowing,
    );
    this.places.set(id, place);
    if (isStored) this.claim(place, ownId);
    if (place.expiry.atMs <= this.listedMs.event) this.heaps.event.push(place.expiry);
    return place;
  }

  /** The place's row and its timers are looked after by the place from now on. */
  private claim(place: OpenPlace<V, C>, ownId: string): void {
    const { codec, plan } = this;
    this.claimed.add(ownId);
    for (const rowId of this.state.rows.inGroup(codec.timersOf(place.id))) {
      this.claimed.add(rowId);
      const timer = codec.decodeTimer(rowId, this.state.rows.get(rowId)!);
      const due = this.dueTimer(place, timer);
      const domain = plan.timers[timer.index]!;
      place.timers.set(timerName(timer.index, timer.tag), due);
      place.earliestMs[domain] = Math.min(place.earliestMs[domain], due.atMs);
      if (due.atMs <= this.listedMs[domain]) this.heaps[domain].push(due);
    }
  }

  private dueTimer(place: OpenPlace<V, C>, timer: Timer): DueTimer<OpenPlace<V, C>> {
    const atMs = timerFiresAt(timer, this.plan.timers[timer.index]!);
    return { kind: "timer", place, timer, atMs, isOver: false };
  }

  private dueElement(
    place: OpenPlace<V, C>,
    element: DueElement<OpenPlace<V, C>>["element"],
  ): DueElement<OpenPlace<V, C>> {
    const atMs = releaseWatermark(element.timestampMs, this.plan.windowing);
    return { kind: "element", place, element, atMs, isOver: false };
  }
}

const RANKS = { element: 0, timer: 1, expiry: 2 } as const;

/** Elements before the timers of the same time, and these before the end of the window. */
function newHeap<V, C extends Cells<V>>(): DueHeap<PlaceDue<OpenPlace<V, C>>> {
  return new DueHeap(
    (a, b) =>
      a.atMs - b.atMs ||
      RANKS[a.kind] - RANKS[b.kind] ||
      a.place.order - b.place.order ||
      (a.kind === "element" && b.kind === "element" ? byTurn(a, b) : 0) ||
      (a.kind === "timer" && b.kind === "timer" ? byName(a.timer, b.timer) : 0),
  );
}

/** The timestamps differ where lateness or the end of time brings them to one watermark. */
function byTurn(a: DueElement<unknown>, b: DueElement<unknown>): number {
  return a.element.timestampMs - b.element.timestampMs || a.element.sequence - b.element.sequence;
}

function byName(a: Timer, b: Timer): number {
  return a.index - b.index || (a.tag < b.tag ? -1 : a.tag > b.tag ? 1 : 0);
}

/** Event time first: processing time is whatever the clock says. */
function isBefore(a: DueTimer<unknown>, b: DueTimer<unknown>, { timers }: KeyedPlan): boolean {
  const rank = (due: DueTimer<unknown>): number => (timers[due.timer.index] === "event" ? 0 : 1);
  return (rank(a) - rank(b) || a.atMs - b.atMs || byName(a.timer, b.timer)) < 0;
}

function partsOf(name: string): [index: number, tag: string] {
  const space = name.indexOf(" ");
  return space < 0 ? [Number(name), ""] : [Number(name.slice(0, space)), name.slice(space + 1)];
}

function latest(a: number | undefined, b: number | undefined): number | undefined {
  if (a === undefined || b === undefined) return a ?? b;
  return Math.max(a, b);
}

/** The smallest output time that the state holds back. Infinity if there is none. */
export function holdOfKeyed({ rows }: KeyedState<unknown>): number {
  return rows.least("holdMs");
}

/** The smallest watermark at which the state has something to do. Infinity if there is none. */
export function nextTimerOfKeyed({ rows }: KeyedState<unknown>): number {
  return rows.least("timerMs");
}

/** The smallest processing time at which a timer fires. Infinity if none is set. */
export function nextClockOfKeyed({ rows }: KeyedState<unknown>): number {
  return rows.least("clockMs");
}
