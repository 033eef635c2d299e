import fc from "fast-check";
import { leadsToSource, matchesSource, watchRoot, type ZnodeSource } from "../../lib/checkpoint/znode-source";

const SEED = 20260724;
function source(path: string, recursive = true): ZnodeSource {
  return { path, recursive, start: "snapshot", allowFeedback: false };
}

test.each([
  ["/", "/"],
  ["/a/b", "/a/b"],
  ["/dubbo/*/providers", "/dubbo"],
  ["/*", "/"],
  ["/a/*x", "/a/*x"],
])("the watch root of %s is %s", (path, root) => {
  expect(watchRoot(source(path))).toBe(root);
});

test.each([
  ["/app", "/app", true, true],
  ["/app", "/app/a", true, false],
  ["/app", "/application", false, false],
  ["/app", "/", false, false],
  ["/", "/", true, true],
  ["/", "/x/y", true, false],
  ["/d/*/p", "/d/s/p", true, true],
  ["/d/*/p", "/d/s/p/x", true, false],
  ["/d/*/p", "/d/s/q", false, false],
  ["/d/*/p", "/d/s", false, false],
  ["/*", "/x", true, true],
  ["/*", "/", false, false],
])("a source of %s and the znode %s: below %s, alone %s", (pattern, path, recursive, alone) => {
  expect(matchesSource(source(pattern), path)).toBe(recursive);
  expect(matchesSource(source(pattern, false), path)).toBe(alone);
});

const name = fc.constantFrom("a", "b", "c");
const path = fc.array(name, { maxLength: 5 }).map((names) => `/${names.join("/")}`);
const pattern = fc
  .array(fc.oneof(name, fc.constant("*")), { maxLength: 4 })
  .map((names) => `/${names.join("/")}`);

test("a walk from the watch root gets to everything that matches, and never below what can't", () => {
  fc.assert(
    fc.property(pattern, path, fc.boolean(), (wanted, znode, recursive) => {
      const each = source(wanted, recursive);
      if (!matchesSource(each, znode)) return;
      const root = watchRoot(each);
      expect(root === "/" || znode === root || znode.startsWith(`${root}/`)).toBe(true);
      const names = znode.split("/").slice(1).filter(Boolean);
      for (let depth = 0; depth <= names.length; depth += 1) {
        expect(leadsToSource(each, `/${names.slice(0, depth).join("/")}`)).toBe(true);
      }
    }),
    { seed: SEED, numRuns: 1_000 },
  );
  expect(leadsToSource(source("/a/b"), "/a/c")).toBe(false);
  expect(leadsToSource(source("/a/b", false), "/a/b/c")).toBe(false);
});
