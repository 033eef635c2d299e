import type { AsyncCall, AsyncFn } from "../async-fn";
import type { Pane } from "../engine/panes";
import type { Window } from "../engine/windows";
import { AsyncOperator, type Call, type Calling } from "./calls";
import { bindContext, followsElement, type Place } from "./context";
import type { Receiver } from "./receiver";
import type { Surroundings } from "./stage-operators";
import { elementText, isThenable, type UserCode } from "./user-code";
import { fromSdkWindowedValue, type WindowedValue } from "./windowed-value";

/** Calls of a function of the user's, of one bundle. */
export function asyncOperator(
  fn: AsyncFn,
  context: unknown,
  code: UserCode,
  place: Place,
  { origins, clock }: Surroundings,
  next: Receiver,
): AsyncOperator {
  const user = new UserCalls(fn, context, place, code);
  return new AsyncOperator(user, fn.settings, code, origins, clock, next);
}

class UserCalls implements Calling {
  readonly startBundle: Calling["startBundle"];
  readonly finishBundle: Calling["finishBundle"];
  readonly dispose: Calling["dispose"];
  readonly results: Calling["results"];
  private readonly shared: unknown;
  private readonly follows: boolean;

  constructor(
    private readonly fn: AsyncFn,
    private readonly context: unknown,
    private readonly place: Place,
    private readonly code: UserCode,
  ) {
    const { startBundle, finishBundle } = fn.hooks;
    this.follows = fn.kind !== "batch" && followsElement(context);
    const lent = fn.hooks.follows?.lend();
    this.dispose = lent?.end;
    this.shared = lent === undefined ? bindContext(context, place) : lent.value;
    this.startBundle = startBundle;
    if (fn.kind === "flatMap") this.results = (given, { value }) => [this.several(given, value)];
    if (fn.kind === "batch") this.results = (given, { items }) => this.each(given, items.length);
    if (finishBundle) this.finishBundle = async () => this.windowed(await finishBundle());
  }

  begin(call: Call): unknown {
    const { fn, kind } = this.fn;
    const value = kind === "batch" ? call.items.map((item) => item.value) : call.value;
    const given = (fn as UntypedFn)(value, new Told(call, this.follows ? this.contextOf(call) : this.shared));
    return isAsyncIterable(given) ? collect(given) : given;
  }

  private several(given: unknown, element: unknown): readonly unknown[] {
    if (given === undefined || given === null) return [];
    if (Array.isArray(given)) return given;
    if (typeof (given as Iterable<unknown>)[Symbol.iterator] === "function")
      return [...(given as Iterable<unknown>)];
    throw this.code.refusal(`must give an iterable of elements, not ${elementText(given)}`, element);
  }

  private each(given: unknown, count: number): readonly (readonly unknown[])[] {
    if (Array.isArray(given) && given.length === count) return given.map((result) => [result]);
    const what = Array.isArray(given) ? `${given.length} results` : elementText(given);
    throw new TypeError(`must give an array of one result for each of the ${count} elements, not ${what}`);
  }

  /** Of one element, since its turn goes on while others have theirs. */
  private contextOf({ timestampMs, window, pane }: Call): unknown {
    const place = this.place.fork();
    place.moveTo(timestampMs, window, pane);
    return bindContext(this.context, place, (param, key) => place.settle(param, key));
  }

  private windowed(given: unknown): readonly WindowedValue[] {
    if (given === undefined || given === null) return [];
    return [...(given as Iterable<unknown>)].map((result) => fromSdkWindowedValue(result, this.code));
  }
}

/** What the function is told beside its element; most of it is looked up when it is asked for. */
class Told implements AsyncCall<unknown> {
  constructor(
    private readonly call: Call,
    readonly context: unknown,
  ) {}

  get timestampMs(): number {
    return this.call.timestampMs;
  }
  get window(): Window {
    return this.call.window;
  }
  get pane(): Pane {
    return this.call.pane;
  }
  get signal(): AbortSignal {
    return this.call.signal;
  }
}

type UntypedFn = (element: unknown, call: unknown) => unknown;

function isAsyncIterable(given: unknown): given is AsyncIterable<unknown> {
  return typeof given === "object" && given !== null && Symbol.asyncIterator in given && !isThenable(given);
}

async function collect(results: AsyncIterable<unknown>): Promise<unknown[]> {
  const all: unknown[] = [];
  for await (const result of results) all.push(result);
  return all;
}
