import { filterProblem, passesFilter, type ValueFilter } from "../../lib/checkpoint/value-filter";

const VALUE = { level: "error", n: 5, ok: true, none: null, tags: ["a", "b"], owner: { team: "x" } };

test.each<[string, ValueFilter, boolean]>([
  ["a value", { level: ["error"] }, true],
  ["another value", { level: ["warn"] }, false],
  ["alternatives", { level: ["warn", "error"] }, true],
  ["all fields have to fit", { level: ["error"], n: [4] }, false],
  ["null is a value", { none: [null] }, true],
  ["a field that is missing is not null", { other: [null] }, false],
  ["exists", { none: [{ exists: true }], other: [{ exists: false }] }, true],
  ["exists not", { level: [{ exists: false }] }, false],
  ["prefix", { level: [{ prefix: "err" }] }, true],
  ["prefix of a number", { n: [{ prefix: "5" }] }, false],
  ["suffix", { level: [{ suffix: "or" }] }, true],
  ["anything but", { level: [{ "anything-but": ["warn"] }] }, true],
  ["anything but this", { level: [{ "anything-but": ["error"] }] }, false],
  ["anything but, of nothing", { other: [{ "anything-but": ["error"] }] }, false],
  ["a range", { n: [{ numeric: [">", 0, "<=", 5] }] }, true],
  ["outside of a range", { n: [{ numeric: [">", 0, "<", 5] }] }, false],
  ["a range of text", { level: [{ numeric: [">", 0] }] }, false],
  ["a member of a list", { tags: ["b"] }, true],
  ["no member of a list", { tags: ["c"] }, false],
  ["deeper", { owner: { team: ["x"] } }, true],
  ["deeper than there is", { level: { team: ["x"] } }, false],
  ["what every object inherits", { toString: [{ exists: true }] }, false],
])("%s", (_, filter, passes) => {
  expect(filterProblem(filter)).toBeUndefined();
  expect(passesFilter(filter, Buffer.from(JSON.stringify(VALUE)))).toBe(passes);
});

test("a value that is no JSON object has no fields", () => {
  for (const value of ["", "text", "[1]", "5", "null", "\xff"]) {
    expect(passesFilter({ level: ["error"] }, Buffer.from(value, "latin1"))).toBe(false);
    expect(passesFilter({ level: [{ exists: false }] }, Buffer.from(value, "latin1"))).toBe(true);
  }
});

test.each([
  [null, "filter must be an object"],
  [{}, "must name a field"],
  [{ a: "x" }, "filter.a must be an object, or a list"],
  [{ a: { b: [] } }, "filter.a.b allows nothing"],
  [{ a: [{ prefix: 5 }] }, "prefix needs a text"],
  [{ a: [{ exists: "yes" }] }, "exists needs true or false"],
  [{ a: [{ "anything-but": "x" }] }, "anything-but needs a list"],
  [{ a: [{ numeric: [">"] }] }, "numeric needs pairs"],
  [{ a: [{ numeric: ["~", 5] }] }, "numeric needs pairs"],
  [{ a: [{ wildcard: "*" }] }, "must be a value or one of"],
  [{ a: [{ prefix: "x", suffix: "y" }] }, "must be a value or one of"],
])("%j is no filter", (filter, problem) => {
  expect(filterProblem(filter)).toContain(problem);
});
