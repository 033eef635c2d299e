/** An element that user code gives a timestamp. */
export class Timestamped<T> {
  // Makes it a type of its own: an element that looks like one is none.
  readonly #value: T;

  constructor(
    value: T,
    readonly timestampMs: number,
  ) {
    this.#value = value;
  }

  get value(): T {
    return this.#value;
  }
}
