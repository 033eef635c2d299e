import { ByteReader } from "./coders/byte-reader";
import { decodeInboxElement } from "./coders/element-coder";
import { keyHash } from "./coders/key";
import { encodeSharedKeyed, KEYED_STATE_VERSION } from "./coders/keyed-state-coder";
import { PANE_STATE_VERSION } from "./coders/pane-state-coder";
import { SIDE_INPUT_STATE_VERSION } from "./coders/side-input-coder";
import { encodeShared, STATE_VERSION } from "./coders/state-coder";
import { withWriter } from "./coders/value-coder";

/** The hash that an element in the inbox of a stage that groups was sent by; it needs no code of the pipeline's. */
export function inboxKeyHash(element: Uint8Array): number {
  return keyHash(decodeInboxElement(element).key);
}

interface Shared {
  readonly version: number;
  readonly watermarkMs: number;
  /** NaN for none. */
  readonly nowMs: number;
  readonly triggerSize: number;
}

/**
 * What the keys of a shard have in common when it takes keys of several: the lowest watermark and the earliest
 * processing time, so that nothing that was in time is late, and nothing has fired that has not. Undefined: it has seen
 * nothing. Throws CorruptEncodingError.
 */
export function mergeShared(all: readonly (Uint8Array | undefined)[]): Uint8Array | undefined {
  const known = all.filter((shared) => shared !== undefined).map(decode);
  const [first] = known;
  if (first === undefined) return undefined;
  const isNew = known.length < all.length;
  const watermarkMs = isNew ? -Infinity : Math.min(...known.map((shared) => shared.watermarkMs));
  const times = known.map(({ nowMs }) => nowMs).filter((nowMs) => !Number.isNaN(nowMs));
  if (first.version === STATE_VERSION) return encodeShared(watermarkMs);
  if (first.version === SIDE_INPUT_STATE_VERSION)
    return withWriter((out) => {
      out.byte(SIDE_INPUT_STATE_VERSION);
      out.double(watermarkMs);
    });
  if (first.version === KEYED_STATE_VERSION)
    return encodeSharedKeyed({ watermarkMs, nowMs: times.length > 0 ? Math.min(...times) : undefined });
  return withWriter((out) => {
    out.byte(PANE_STATE_VERSION);
    out.double(watermarkMs);
    out.double(times.length > 0 ? Math.min(...times) : NaN);
    out.varint(first.triggerSize);
  });
}

function decode(bytes: Uint8Array): Shared {
  const reader = new ByteReader(bytes, "the state of a shard");
  const version = reader.byte();
  const watermarkMs = reader.double();
  if (version === STATE_VERSION || version === SIDE_INPUT_STATE_VERSION)
    return { version, watermarkMs, nowMs: NaN, triggerSize: 0 };
  if (version === KEYED_STATE_VERSION)
    return { version, watermarkMs, nowMs: reader.double(), triggerSize: 0 };
  if (version !== PANE_STATE_VERSION)
    return reader.fail(`version ${version} is unknown; run the code that wrote it`);
  return { version, watermarkMs, nowMs: reader.double(), triggerSize: reader.varint() };
}
