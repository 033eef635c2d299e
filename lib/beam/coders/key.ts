import type { KeyId } from "../engine/aggregation";
import { canonicalBytes, canonicalText } from "./value-coder";

/** Marks what is not the key itself; a text that begins with it is marked as well. */
const MARK = "\0";

/**
 * The identity of a key. Most strings and all numbers are their own (-0 becomes 0). Equality is by value: the order of properties does
 * not count, -0 equals 0, NaN equals NaN, 1 differs from 1n.
 */
export function keyId(key: unknown): KeyId {
  if (typeof key === "string") return key.charCodeAt(0) === 0 ? `${MARK}s${key}` : key;
  if (typeof key === "number") return key + 0;
  return `${MARK}v${canonicalText(key)}`;
}

/**
 * 32-bit hash of a key by value, the same in every process: MurmurHash3 (x86, 32 bits, seed 0) of its canonical
 * encoding. Murmur's final mix spreads keys that differ in one character over all shards.
 */
export function keyHash(key: unknown): number {
  return murmur3(canonicalBytes(key));
}

/** Whether a key's canonical encoding is its usual one, so that its hash can be had from that. */
export function hasCanonicalEncoding(key: unknown): boolean {
  return typeof key === "string" || (typeof key === "number" && (key | 0) === key && !Object.is(key, -0));
}

/** Of the bytes from `start` to before `end`. */
export function murmur3(bytes: Uint8Array, start = 0, end = bytes.length): number {
  let hash = 0;
  const whole = start + ((end - start) & ~3);
  for (let i = start; i < whole; i += 4) {
    const block = bytes[i]! | (bytes[i + 1]! << 8) | (bytes[i + 2]! << 16) | (bytes[i + 3]! << 24);
    hash ^= scramble(block);
    hash = Math.imul((hash << 13) | (hash >>> 19), 5) + 0xe6546b64;
  }
  let tail = 0;
  for (let i = end - 1; i >= whole; i--) tail = (tail << 8) | bytes[i]!;
  if (whole < end) hash ^= scramble(tail);
  return finish(hash ^ (end - start));
}

function scramble(block: number): number {
  const mixed = Math.imul(block, 0xcc9e2d51);
  return Math.imul((mixed << 15) | (mixed >>> 17), 0x1b873593);
}

function finish(hash: number): number {
  let h = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}
