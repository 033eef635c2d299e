import { KEY_GROUPS } from "./layout";

const WORD_BITS = 32;
const WORDS = KEY_GROUPS / WORD_BITS;

/** Some of the key groups, as bits: every commit looks at those of all deltas that wait. Never changes. */
export class GroupSet {
  static readonly NONE = new GroupSet(new Int32Array(WORDS));

  private constructor(private readonly words: Int32Array) {}

  static of(groups: Iterable<number>): GroupSet {
    const words = new Int32Array(WORDS);
    for (const group of groups) words[group >>> 5]! |= 1 << (group & 31);
    return new GroupSet(words);
  }

  /** The groups from `from` up to and without `to` besides these. */
  withRange(from: number, to: number): GroupSet {
    const words = this.words.slice();
    for (let group = from; group < to; group++) words[group >>> 5]! |= 1 << (group & 31);
    return new GroupSet(words);
  }

  has(group: number): boolean {
    return (this.words[group >>> 5]! & (1 << (group & 31))) !== 0;
  }

  isWithin({ words }: GroupSet): boolean {
    for (let at = 0; at < WORDS; at++) if ((this.words[at]! & ~words[at]!) !== 0) return false;
    return true;
  }

  /** These without the others; the same object where none of those is among these. */
  without({ words }: GroupSet): GroupSet {
    let isApart = true;
    for (let at = 0; at < WORDS; at++) if ((this.words[at]! & words[at]!) !== 0) isApart = false;
    return isApart ? this : new GroupSet(this.words.map((word, index) => word & ~words[index]!));
  }

  get isEmpty(): boolean {
    return this.isWithin(GroupSet.NONE);
  }

  /** Undefined where there is none. */
  get first(): number | undefined {
    const index = this.words.findIndex((word) => word !== 0);
    if (index < 0) return undefined;
    const word = this.words[index]!;
    return index * WORD_BITS + (WORD_BITS - 1 - Math.clz32(word & -word));
  }

  *[Symbol.iterator](): Generator<number> {
    for (let group = 0; group < KEY_GROUPS; group++) if (this.has(group)) yield group;
  }
}
