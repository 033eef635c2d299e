import type { BundleOutput, SinkEffect } from "../api";
import { encodeElement, encodeKeyed, type ShuffledElement } from "../coders/element-coder";
import { keyHash, murmur3 } from "../coders/key";
import type { SinkPlace, SinkSpec } from "../primitives";
import type { Operator } from "./elementwise";
import type { Receiver } from "./receiver";
import { isThenable, type UserCode } from "./user-code";

/** A rough size of what an output or effect adds beyond its payload, for cutting bundles. */
const OVERHEAD_BYTES = 32;

/** What a bundle gives off: elements for downstream stages and effects for the commit. */
export class BundleOutputs {
  readonly byStage = new Map<string, BundleOutput[]>();
  readonly effects: SinkEffect[] = [];
  pendingBytes = 0;
  elements = 0;

  add(stage: string, output: BundleOutput): void {
    const outputs = this.byStage.get(stage);
    if (outputs === undefined) this.byStage.set(stage, [output]);
    else outputs.push(output);
    this.elements++;
    this.pendingBytes += output.bytes.length + OVERHEAD_BYTES;
  }

  addEffect(effect: SinkEffect): void {
    this.effects.push(effect);
    this.elements++;
    this.pendingBytes += sizeOf(effect.payload) + OVERHEAD_BYTES;
  }
}

/** The end of a stage at a shuffle: elements must be {key, value}, or with `asOne` they all have one key. */
export function shuffleOperator(
  stage: string,
  code: UserCode,
  outputs: BundleOutputs,
  asOne: boolean,
): Operator {
  if (asOne) return keyedOperator(stage, code, outputs, null);
  return {
    receive(element, timestampMs, window, pane) {
      const { key, value } = keyedParts(element, code);
      try {
        sendKeyed(stage, outputs, { key, value, timestampMs, window, pane });
      } catch (error) {
        throw code.unencodable(error, element);
      }
    },
  };
}

export function keyedParts(
  element: unknown,
  code: UserCode,
): { readonly key: unknown; readonly value?: unknown } {
  if (typeof element === "object" && element !== null && "key" in element)
    return element as { key: unknown; value?: unknown };
  throw code.refusal("grouping needs elements of the form {key, value}", element);
}

/** @throws UnencodableValueError */
export function sendKeyed(stage: string, outputs: BundleOutputs, element: ShuffledElement): void {
  const { bytes, keyHash } = encodeKeyed(element);
  outputs.add(stage, { bytes, timestampMs: element.timestampMs, keyHash, isBroadcast: false });
}

/** The end of a stage before a transform with side inputs: any shard may process the element. */
export function parkingOperator(stage: string, code: UserCode, outputs: BundleOutputs): Operator {
  return keyedOperator(stage, code, outputs, undefined);
}

/** A pane of a side input, on its way to every shard of a stage that looks it up. */
export function sideOperator(stage: string, tag: string, outputs: BundleOutputs): Receiver {
  return (element, timestampMs, window, pane) => {
    const { value } = element as { value: unknown };
    const bytes = encodeElement({ key: tag, value, timestampMs, window, pane });
    outputs.add(stage, { bytes, timestampMs, keyHash: 0, isBroadcast: true });
  };
}

/** Elements under a key that they do not bring themselves. Without any they are spread by their content. */
function keyedOperator(
  stage: string,
  code: UserCode,
  outputs: BundleOutputs,
  key: null | undefined,
): Operator {
  return {
    receive(value, timestampMs, window, pane) {
      try {
        const bytes = encodeElement({ key, value, timestampMs, window, pane });
        const hash = key === undefined ? murmur3(bytes) : keyHash(key);
        outputs.add(stage, { bytes, timestampMs, keyHash: hash, isBroadcast: false });
      } catch (error) {
        throw code.unencodable(error, value);
      }
    },
  };
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

function sizeOf(value: unknown): number {
  if (typeof value === "string") return value.length;
  if (value instanceof Uint8Array) return value.length;
  if (typeof value !== "object" || value === null) return 8;
  let size = 0;
  for (const part of Object.values(value)) size += sizeOf(part) + 8;
  return size;
}
