import type { TimeDomain } from "../engine/keyed-place";
import type { CellSpec } from "../operators/state-cells";

/** The URN of stateful transforms, which the SDK does not have. */
export const STATEFUL_URN = "beamkeeper:transform:stateful_par_do:v1";

/** A stateful DoFn, without the types of its elements. */
export interface UserStatefulDoFn {
  readonly state?: Readonly<Record<string, CellSpec>>;
  readonly timers?: Readonly<Record<string, { readonly domain: TimeDomain }>>;
  readonly params?: object;
  setup?(): unknown;
  process(element: unknown, context: unknown): unknown;
  readonly onTimer?: Readonly<Record<string, (context: unknown) => unknown>>;
  onWindowExpiration?(context: unknown): unknown;
  teardown?(): unknown;
  readonly requiresTimeSortedInput?: boolean;
  readonly requiresStableInput?: boolean;
}

/** What `statefulParDo` is made with. Without `keyOf` the elements are {key, value}. */
export interface StatefulSpec {
  readonly doFn: UserStatefulDoFn;
  readonly keyOf: ((element: unknown) => unknown) | undefined;
}

/** What two builds must agree on to exchange state, for the fingerprint. */
export function statefulSettings({ doFn }: StatefulSpec): object {
  const { state = {}, timers = {}, requiresTimeSortedInput = false } = doFn;
  return {
    state: Object.entries(state).map(([name, { kind }]) => [name, kind]),
    timers: Object.entries(timers).map(([name, { domain }]) => [name, domain]),
    sorted: requiresTimeSortedInput,
  };
}
