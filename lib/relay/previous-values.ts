/**
 * The values that were delivered last, for sources that deliver the value before each change: as many as fit in
 * `maxBytes`, those that were not used for longest go first. They live in this process only, so after a take-over
 * a value is unknown until it has been delivered once.
 */
export class PreviousValues {
  private readonly values = new Map<string, Buffer>();
  private bytes = 0;

  constructor(private readonly maxBytes: number) {}

  /** The value delivered last; undefined where it is not known. */
  get(path: string): Buffer | undefined {
    return this.values.get(path);
  }

  /** A value was delivered, or null for a deletion. */
  delivered(path: string, data: Buffer | null): void {
    const before = this.values.get(path);
    this.bytes -= before ? cost(path, before) : 0;
    this.values.delete(path);
    if (data === null || cost(path, data) > this.maxBytes) return;
    this.values.set(path, data);
    this.bytes += cost(path, data);
    for (const [oldest, value] of this.values) {
      if (this.bytes <= this.maxBytes) break;
      this.values.delete(oldest);
      this.bytes -= cost(oldest, value);
    }
  }
}

// What a Map entry and a Buffer cost beside their bytes.
const ENTRY_BYTES = 200;

function cost(path: string, data: Buffer): number {
  return path.length + data.length + ENTRY_BYTES;
}
