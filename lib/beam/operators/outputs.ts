import type { BundleOutput, SinkEffect, Spool } from "../api";
import { ByteReader } from "../coders/byte-reader";
import { encodeElement, encodeKeyed, type ShuffledElement } from "../coders/element-coder";
import { keyHash, murmur3 } from "../coders/key";
import { withWriter } from "../coders/value-coder";
import type { SinkPlace, SinkSpec } from "../primitives";
import type { Operator } from "./elementwise";
import type { Receiver } from "./receiver";
import { isThenable, type UserCode } from "./user-code";

/** A rough size of what an output or effect adds beyond its payload, for cutting bundles. */
const OVERHEAD_BYTES = 32;

// One element may give any amount of output; above this it waits in the spool.
const MEMORY_BYTES = 8 * 1024 * 1024;

/** What a bundle gives off: elements for downstream stages and effects for the commit. */
export class BundleOutputs {
  readonly byStage = new Map<string, OutputList>();
  readonly effects: SinkEffect[] = [];
  pendingBytes = 0;
  elements = 0;
  private bytesInMemory = 0;

  constructor(private readonly spool: Spool) {}

  add(stage: string, output: BundleOutput): void {
    let outputs = this.byStage.get(stage);
    if (outputs === undefined) {
      outputs = new OutputList(this.spool);
      this.byStage.set(stage, outputs);
    }
    outputs.push(output);
    this.elements++;
    const bytes = output.bytes.length + OVERHEAD_BYTES;
    this.pendingBytes += bytes;
    this.bytesInMemory += bytes;
    if (this.bytesInMemory < MEMORY_BYTES) return;
    for (const list of this.byStage.values()) list.spill();
    this.bytesInMemory = 0;
  }

  addEffect(effect: SinkEffect): void {
    this.effects.push(effect);
    this.elements++;
    this.pendingBytes += sizeOf(effect.payload) + OVERHEAD_BYTES;
  }

  dispose(): void {
    for (const list of this.byStage.values()) list.dispose();
  }
}

/** Outputs in the order in which they came, the older ones in the spool. */
class OutputList implements Iterable<BundleOutput> {
  private readonly spilled: number[] = [];
  private recent: BundleOutput[] = [];

  constructor(private readonly spool: Spool) {}

  push(output: BundleOutput): void {
    this.recent.push(output);
  }

  spill(): void {
    if (this.recent.length === 0) return;
    this.spilled.push(this.spool.write(encodeOutputs(this.recent)));
    this.recent = [];
  }

  *[Symbol.iterator](): Generator<BundleOutput> {
    for (const handle of this.spilled) yield* decodeOutputs(this.spool.read(handle));
    yield* this.recent;
  }

  dispose(): void {
    for (const handle of this.spilled.splice(0)) this.spool.free(handle);
  }
}

/** For each: time (double, ms), hash of the key (double), 1 for a broadcast (1 byte), length (varint), bytes. */
function encodeOutputs(outputs: readonly BundleOutput[]): Buffer {
  return withWriter((out) => {
    for (const { bytes, timestampMs, keyHash: hash, isBroadcast } of outputs) {
      out.double(timestampMs);
      out.double(hash);
      out.byte(Number(isBroadcast));
      out.varint(bytes.length);
      out.bytes(bytes);
    }
  });
}

function* decodeOutputs(spilled: Uint8Array): Generator<BundleOutput> {
  const reader = new ByteReader(spilled, "outputs in the spool");
  while (reader.remaining > 0) {
    const timestampMs = reader.double();
    const hash = reader.double();
    const isBroadcast = reader.byte() === 1;
    yield { timestampMs, keyHash: hash, isBroadcast, bytes: reader.bytes() };
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
