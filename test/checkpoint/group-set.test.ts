import fc from "fast-check";
import { GroupSet } from "../../lib/checkpoint/group-set";
import { KEY_GROUPS } from "../../lib/checkpoint/layout";

const groups = fc.uniqueArray(fc.nat(KEY_GROUPS - 1));
const sorted = (all: Iterable<number>): number[] => [...all].sort((a, b) => a - b);

test("it is what a set of the same groups is", () => {
  fc.assert(
    fc.property(groups, groups, (some, others) => {
      const set = GroupSet.of(some);
      const other = GroupSet.of(others);
      const left = some.filter((group) => !others.includes(group));
      expect([...set]).toEqual(sorted(some));
      expect([...set.without(other)]).toEqual(sorted(left));
      expect(set.isWithin(other)).toBe(left.length === 0);
      expect(set.isEmpty).toBe(some.length === 0);
      expect(set.first).toBe(sorted(some)[0]);
    }),
  );
});

test("a range is added whole, and what is not among them leaves a set as it is", () => {
  const set = GroupSet.of([0, 31, 32, 127]);
  expect([...set.withRange(30, 34)]).toEqual([0, 30, 31, 32, 33, 127]);
  expect([...GroupSet.NONE.withRange(0, KEY_GROUPS)]).toHaveLength(KEY_GROUPS);
  expect(set.without(GroupSet.of([1, 33]))).toBe(set);
});
