import type { SinkEffect, Spool, StageOutputs } from "../api";
import { encodeElement } from "../coders/element-coder";
import { keyHash, keyId, murmur3 } from "../coders/key";
import type { KeyId } from "../engine/aggregation";
import type { Pane } from "../engine/panes";
import type { Window } from "../engine/windows";
import type { ElementCoder, GroupingCoders } from "../graph/element-coders";
import type { SinkPlace, SinkSpec } from "../primitives";
import type { Operator } from "./elementwise";
import { BROADCAST, OutputList, type OutputTally } from "./output-list";
import type { Receiver } from "./receiver";
import { isThenable, type UserCode } from "./user-code";

/** A rough size of what an output or effect adds beyond its payload, for cutting bundles. */
const OVERHEAD_BYTES = 32;

// One element may give any amount of output; above this it waits in the spool.
const MEMORY_BYTES = 8 * 1024 * 1024;

/** What a bundle gives off: elements for downstream stages and effects for the commit. */
export class BundleOutputs implements OutputTally {
  private readonly lists = new Map<string, OutputList>();
  readonly effects: SinkEffect[] = [];
  pendingBytes = 0;
  elements = 0;
  private bytesInMemory = 0;

  constructor(private readonly spool: Spool) {}

  /** Of the stages that something was written for. */
  get byStage(): ReadonlyMap<string, StageOutputs> {
    return new Map([...this.lists].filter(([, list]) => !list.isEmpty));
  }

  /** Where elements for a stage are written. */
  list(stage: string): OutputList {
    let outputs = this.lists.get(stage);
    if (outputs === undefined) {
      outputs = new OutputList(this.spool, this);
      this.lists.set(stage, outputs);
    }
    return outputs;
  }

  added(length: number, elements: number): void {
    this.elements += elements;
    const bytes = length + OVERHEAD_BYTES;
    this.pendingBytes += bytes;
    this.bytesInMemory += bytes;
    if (this.bytesInMemory < MEMORY_BYTES) return;
    for (const list of this.lists.values()) list.spill();
    this.bytesInMemory = 0;
  }

  addEffect(effect: SinkEffect): void {
    this.effects.push(effect);
    this.elements++;
    this.pendingBytes += sizeOf(effect.payload) + OVERHEAD_BYTES;
  }

  dispose(): void {
    for (const list of this.lists.values()) list.dispose();
  }
}

/** The end of a stage at a shuffle: elements must be {key, value}, or with `asOne` they all have one key. */
export function shuffleOperator(
  stage: string,
  code: UserCode,
  outputs: BundleOutputs,
  asOne: boolean,
  coders: GroupingCoders | undefined,
): Operator {
  if (asOne) return keyedOperator(stage, code, outputs, null);
  return new ShuffleOperator(outputs.list(stage), code, coders);
}

class ShuffleOperator implements Operator {
  constructor(
    private readonly list: OutputList,
    private readonly code: UserCode,
    private readonly coders: GroupingCoders | undefined,
  ) {}

  receive(element: unknown, timestampMs: number, window: Window, pane: Pane): void {
    const { code, coders } = this;
    let { key, value } = keyedParts(element, code);
    if (coders !== undefined) {
      key = toPlain(coders.key, key, code, element);
      value = toPlain(coders.value, value, code, element);
    }
    try {
      this.list.addKeyed(key, value, timestampMs, window, pane);
    } catch (error) {
      throw code.unencodable(error, element);
    }
  }
}

/** By a coder of the user's; as it is where there is none. */
export function toPlain(
  coder: ElementCoder | undefined,
  value: unknown,
  code: UserCode,
  element: unknown,
): unknown {
  if (coder === undefined) return value;
  try {
    return coder.toPlain(value);
  } catch (error) {
    throw code.failure(error, element);
  }
}

export function keyedParts(
  element: unknown,
  code: UserCode,
): { readonly key: unknown; readonly value?: unknown } {
  if (typeof element === "object" && element !== null && "key" in element)
    return element as { key: unknown; value?: unknown };
  throw code.refusal("grouping needs elements of the form {key, value}", element);
}

export function keyIdOf(key: unknown, element: unknown, code: UserCode): KeyId {
  try {
    return keyId(key);
  } catch (error) {
    throw code.unencodable(error, element);
  }
}

/** The end of a stage before a transform with side inputs: any shard may process the element. */
export function parkingOperator(stage: string, code: UserCode, outputs: BundleOutputs): Operator {
  return keyedOperator(stage, code, outputs, undefined);
}

/** A pane of a side input, on its way to every shard of a stage that looks it up. */
export function sideOperator(stage: string, tag: string, outputs: BundleOutputs): Receiver {
  const list = outputs.list(stage);
  return {
    receive(element, timestampMs, window, pane) {
      const { value } = element as { value: unknown };
      const bytes = encodeElement({ key: tag, value, timestampMs, window, pane });
      list.add(bytes, timestampMs, BROADCAST);
    },
  };
}

/** Elements under a key that they do not bring themselves. Without any they are spread by their content. */
function keyedOperator(
  stage: string,
  code: UserCode,
  outputs: BundleOutputs,
  key: null | undefined,
): Operator {
  const list = outputs.list(stage);
  return {
    receive(value, timestampMs, window, pane) {
      try {
        const bytes = encodeElement({ key, value, timestampMs, window, pane });
        const hash = key === undefined ? murmur3(bytes) : keyHash(key);
        list.add(bytes, timestampMs, hash);
      } catch (error) {
        throw code.unencodable(error, value);
      }
    },
  };
}

/**
 * The end of a stage whose elements go to one shard after the other, so that all have as many. `first` tells by the
 * encoding of the bundle's first element where it begins.
 */
export function spreadingOperator(
  stage: string,
  code: UserCode,
  outputs: BundleOutputs,
  first: (encoded: Uint8Array) => number,
  coder?: ElementCoder,
): Operator {
  const list = outputs.list(stage);
  let turn: number | undefined;
  return {
    receive(element, timestampMs, window, pane) {
      const value = toPlain(coder, element, code, element);
      try {
        const bytes = encodeElement({ key: undefined, value, timestampMs, window, pane });
        turn ??= first(bytes);
        list.add(bytes, timestampMs, spread(turn++));
      } catch (error) {
        throw code.unencodable(error, element);
      }
    },
  };
}

const SPREAD_BITS = 7;

/**
 * The lowest bits of a number in reverse (0, 64, 32, 96 ...): shards have ranges of key groups, so of any number of
 * shards each gets its turn.
 */
function spread(count: number): number {
  let reversed = 0;
  for (let bit = 0; bit < SPREAD_BITS; bit++) reversed = (reversed << 1) | ((count >> bit) & 1);
  return reversed;
}

export function sinkOperator(spec: SinkSpec, code: UserCode, outputs: BundleOutputs): Operator {
  const toPayload = spec.toPayload as (element: unknown, place: SinkPlace) => unknown;
  return {
    receive(value, timestampMs, window, pane) {
      let payload: unknown;
      try {
        payload = toPayload(value, { timestampMs, window, pane });
      } catch (error) {
        throw code.failure(error, value);
      }
      if (isThenable(payload)) throw code.refusal("returned a Promise; sinks must be synchronous", value);
      outputs.addEffect({ sink: spec.sink, transform: code.transform, payload, window, pane, timestampMs });
    },
  };
}

/** A rough size of a value, in bytes. */
export function sizeOf(value: unknown): number {
  if (typeof value === "string") return value.length;
  if (value instanceof Uint8Array) return value.length;
  if (typeof value !== "object" || value === null) return 8;
  let size = 0;
  for (const part of Object.values(value)) size += sizeOf(part) + 8;
  return size;
}
