/** What brought an element about, in its bundle: an element of the input, a pane, or both; neither at its end. */
export interface Origin {
  /** In the order of the bundle's elements, from 0. */
  readonly element: number | undefined;
  /** In the order of the bundle's panes, from 0. */
  readonly pane: number | undefined;
}

export const NO_ORIGIN: Origin = { element: undefined, pane: undefined };

/** Follows what a bundle is at, so that what fails after its turn is still known for what it was. */
export class Origins {
  /** The element being processed. */
  element: number | undefined;
  /** What failed after its turn. */
  failed: Origin | undefined;
  private resumed: Origin | undefined;

  constructor(private readonly pane: () => number | undefined) {}

  current(): Origin {
    if (this.resumed !== undefined) return this.resumed;
    return { element: this.element, pane: this.pane() };
  }

  /** What follows goes on from an earlier element; to be called with the result when it has. */
  resume(origin: Origin | undefined): Origin | undefined {
    const before = this.resumed;
    this.resumed = origin;
    return before;
  }
}

/**
 * Where to look for what a batch failed on: before its first element, or anywhere when there is nothing before it.
 * A single pane is known by that.
 */
export function originOfBatch(origins: readonly Origin[]): Origin {
  const [first = NO_ORIGIN] = origins;
  if (origins.length === 1) return first;
  const isOnePane = origins.every(({ pane }) => pane === first.pane);
  const isOneElement = origins.every(({ element }) => element === first.element);
  return {
    element: isOneElement || (first.element ?? 0) > 0 ? first.element : undefined,
    pane: isOnePane ? first.pane : undefined,
  };
}
