import { decodeValue, encodeValue } from "../coders/value-coder";
import type { Accumulation } from "../engine/aggregation";
import type { ElementCoder } from "../graph/element-coders";
import type { GraphNode, UserCombineFn } from "../graph/node";
import { BAGS, DecodedBags } from "./bag";
import type { UserCode } from "./user-code";

/** How an aggregate stage's root brings the values of a key together. */
export function accumulationOf({ work, coders }: GraphNode, code: UserCode): Accumulation {
  const coder = coders?.value;
  if (work.kind !== "combine")
    return coder === undefined ? BAGS : new DecodedBags((plain) => decoded(coder, code, plain));
  if (work.isLifted) return new Merging(work.combineFn, code);
  return coder === undefined
    ? new Combining(work.combineFn, code)
    : new DecodedCombining(work.combineFn, code, coder);
}

class Combining implements Accumulation {
  constructor(
    protected readonly fn: UserCombineFn,
    protected readonly code: UserCode,
  ) {}

  create(): unknown {
    return guarded(this.code, undefined, () => this.fn.createAccumulator());
  }
  add(accumulator: unknown, value: unknown): unknown {
    return guarded(this.code, value, () => this.fn.addInput(accumulator, value));
  }
  extract(accumulator: unknown): unknown {
    return guarded(this.code, accumulator, () => this.fn.extractOutput(accumulator));
  }
  /** A CombineFn may change its accumulator in place, and the committed one must stay as it is. */
  copy(accumulator: unknown): unknown {
    return typeof accumulator === "object" && accumulator !== null
      ? guarded(this.code, accumulator, () => decodeValue(encodeValue(accumulator)))
      : accumulator;
  }
  merge(accumulators: readonly unknown[]): unknown {
    return guarded(this.code, accumulators, () => this.fn.mergeAccumulators(accumulators));
  }
}

/** Of values that a coder of the user's has encoded. */
class DecodedCombining extends Combining {
  constructor(
    fn: UserCombineFn,
    code: UserCode,
    private readonly coder: ElementCoder,
  ) {
    super(fn, code);
  }

  override add(accumulator: unknown, value: unknown): unknown {
    return super.add(accumulator, decoded(this.coder, this.code, value));
  }
}

const NOTHING = Symbol("no accumulator");

/** Of values that are accumulators themselves, made before the shuffle; with how many elements each stands for. */
class Merging extends Combining {
  override create(): unknown {
    return NOTHING;
  }
  /** A pane may be empty. */
  override extract(accumulator: unknown): unknown {
    return super.extract(accumulator === NOTHING ? super.create() : accumulator);
  }
  override add(accumulator: unknown, value: unknown): unknown {
    const [, partial] = value as Lifted;
    if (accumulator === NOTHING) return partial;
    return guarded(this.code, partial, () => this.fn.mergeAccumulators([accumulator, partial]));
  }
}

/** What goes through the shuffle of a lifted combine: a number of elements, and the accumulator of their values. */
export type Lifted = readonly [elements: number, accumulator: unknown];

export function guarded<T>(code: UserCode, element: unknown, run: () => T): T {
  try {
    return run();
  } catch (error) {
    throw code.failure(error, element);
  }
}

function decoded(coder: ElementCoder, code: UserCode, plain: unknown): unknown {
  return guarded(code, plain, () => coder.fromPlain(plain));
}
