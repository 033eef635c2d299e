import type { BundleOutput, OutputBlock, Spool, StageOutputs } from "../api";
import { ByteReader } from "../coders/byte-reader";
import { ByteWriter } from "../coders/byte-writer";
import { type EncodedParts, writeGathered, writeKeyed } from "../coders/element-coder";
import type { Pane } from "../engine/panes";
import type { Window } from "../engine/windows";

/** In place of a key's hash: for every shard. */
export const BROADCAST = -1;

/** Of the first buffer, and how many elements there is room for; most bundles are small. */
const FIRST_SIZE_BYTES = 1024;
const FIRST_COUNT = 16;

/** Of bundles that are over, for the next ones: memory outside of the heap costs more to get than to fill. */
const spare: GrowingBlock[] = [];
const MOST_SPARE = 32;
/** A larger one was for a single large bundle. */
const SPARE_SIZE_BYTES = 64 * 1024;

/** Counts what all lists of a bundle are given. */
export interface OutputTally {
  added(bytes: number, elements: number): void;
}

/** Elements for one stage in the order in which they came, one behind the other in one buffer; the older ones in the spool. */
export class OutputList implements StageOutputs {
  private readonly spilled: number[] = [];
  private block: GrowingBlock | undefined;

  constructor(
    private readonly spool: Spool,
    private readonly tally: OutputTally,
  ) {}

  get isEmpty(): boolean {
    return (this.block === undefined || this.block.count === 0) && this.spilled.length === 0;
  }

  /** @throws UnencodableValueError, with nothing added. */
  addKeyed(key: unknown, value: unknown, timestampMs: number, window: Window, pane: Pane): void {
    const { out } = this.current;
    const start = out.length;
    let hash: number;
    try {
      hash = writeKeyed(out, key, value, timestampMs, window, pane);
    } catch (error) {
      out.truncate(start);
      throw error;
    }
    this.written(start, timestampMs, hash, 1);
  }

  /**
   * Values of one key, encoded one behind the other.
   *
   * @throws UnencodableValueError, with nothing added.
   */
  addGathered(key: unknown, timestampMs: number, window: Window, count: number, values: EncodedParts): void {
    const { out } = this.current;
    const start = out.length;
    let hash: number;
    try {
      hash = writeGathered(out, key, timestampMs, window, count, values);
    } catch (error) {
      out.truncate(start);
      throw error;
    }
    this.written(start, timestampMs, hash, count);
  }

  add(bytes: Uint8Array, timestampMs: number, keyHash: number): void {
    const { out } = this.current;
    const start = out.length;
    out.bytes(bytes);
    this.written(start, timestampMs, keyHash, 1);
  }

  private get current(): GrowingBlock {
    this.block ??= spare.pop() ?? new GrowingBlock();
    return this.block;
  }

  private written(start: number, timestampMs: number, keyHash: number, elements: number): void {
    const block = this.current;
    block.end(timestampMs, keyHash);
    this.tally.added(block.out.length - start, elements);
  }

  spill(): void {
    if (this.block === undefined || this.block.count === 0) return;
    this.spilled.push(this.spool.write(encodeBlock(this.block)));
    this.release();
  }

  *blocks(): Generator<OutputBlock> {
    for (const handle of this.spilled) yield decodeBlock(this.spool.read(handle));
    if (this.block !== undefined && this.block.count > 0) yield this.block;
  }

  *[Symbol.iterator](): Generator<BundleOutput> {
    for (const { bytes, count, ends, timestampsMs, keyHashes } of this.blocks()) {
      for (let i = 0; i < count; i++) {
        const keyHash = keyHashes[i]!;
        yield {
          bytes: bytes.subarray(i === 0 ? 0 : ends[i - 1], ends[i]),
          timestampMs: timestampsMs[i]!,
          keyHash: Math.max(keyHash, 0),
          isBroadcast: keyHash === BROADCAST,
        };
      }
    }
  }

  /** What was read of it does not stay as it is. */
  dispose(): void {
    for (const handle of this.spilled.splice(0)) this.spool.free(handle);
    this.release();
  }

  private release(): void {
    const { block } = this;
    this.block = undefined;
    if (block === undefined || block.bytes.length > SPARE_SIZE_BYTES || spare.length === MOST_SPARE) return;
    block.clear();
    spare.push(block);
  }
}

class GrowingBlock implements OutputBlock {
  readonly out = new ByteWriter(FIRST_SIZE_BYTES);
  // Arrays of numbers that may be large would hold an object for each.
  ends: Float64Array = new Float64Array(FIRST_COUNT);
  timestampsMs: Float64Array = new Float64Array(FIRST_COUNT);
  keyHashes: Float64Array = new Float64Array(FIRST_COUNT);
  count = 0;

  get bytes(): Buffer {
    return this.out.all;
  }

  end(timestampMs: number, keyHash: number): void {
    const { count } = this;
    if (count === this.ends.length) this.grow();
    this.ends[count] = this.out.length;
    this.timestampsMs[count] = timestampMs;
    this.keyHashes[count] = keyHash;
    this.count = count + 1;
  }

  clear(): void {
    this.out.truncate(0);
    this.count = 0;
  }

  private grow(): void {
    this.ends = twice(this.ends);
    this.timestampsMs = twice(this.timestampsMs);
    this.keyHashes = twice(this.keyHashes);
  }
}

function twice(numbers: Float64Array): Float64Array {
  const larger = new Float64Array(2 * numbers.length);
  larger.set(numbers);
  return larger;
}

/** Count (varint), for each its end (varint), time (double, ms) and hash of the key (double), then the bytes of all. */
function encodeBlock({ out: block, count, ends, timestampsMs, keyHashes }: GrowingBlock): Buffer {
  const out = new ByteWriter(block.length + 32 * count);
  out.varint(count);
  for (let i = 0; i < count; i++) {
    out.varint(ends[i]!);
    out.double(timestampsMs[i]!);
    out.double(keyHashes[i]!);
  }
  out.part(block.all, 0, block.length);
  return out.take();
}

function decodeBlock(spilled: Uint8Array): OutputBlock {
  const reader = new ByteReader(spilled, "outputs in the spool");
  const count = reader.count();
  const ends: number[] = [];
  const timestampsMs: number[] = [];
  const keyHashes: number[] = [];
  for (let i = 0; i < count; i++) {
    ends.push(reader.varint());
    timestampsMs.push(reader.double());
    keyHashes.push(reader.double());
  }
  return { bytes: reader.rest(), count, ends, timestampsMs, keyHashes };
}
