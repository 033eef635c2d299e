import fc from "fast-check";
import { matchesSource, SourcePaths, type ZnodeSource } from "../../lib/checkpoint/znode-source";

const SEED = 20260724;
function source(path: string, recursive = true): ZnodeSource {
  return { paths: [path], recursive, start: "snapshot", allowFeedback: false };
}
const rootOf = (each: ZnodeSource): string => new SourcePaths(each).roots[0]!;
const leadsToSource = (each: ZnodeSource, path: string): boolean => new SourcePaths(each).leadsTo(path);

test.each([
  ["/", "/"],
  ["/a/b", "/a/b"],
  ["/dubbo/*/providers", "/dubbo"],
  ["/*", "/"],
  ["/a/*x", "/a/*x"],
  ["/a/**/config", "/a"],
])("the watch root of %s is %s", (path, root) => {
  expect(rootOf(source(path))).toBe(root);
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
  ["/a/**/c", "/a/c", true, true],
  ["/a/**/c", "/a/b/b/c", true, true],
  ["/a/**/c", "/a/b/c/d", true, false],
  ["/a/**/c", "/a/b", false, false],
  ["/a/**", "/a", true, true],
])("a source of %s and the znode %s: below %s, alone %s", (pattern, path, recursive, alone) => {
  expect(matchesSource(source(pattern), path)).toBe(recursive);
  expect(matchesSource(source(pattern, false), path)).toBe(alone);
});

const name = fc.constantFrom("a", "b", "c");
const path = fc.array(name, { maxLength: 5 }).map((names) => `/${names.join("/")}`);
const pattern = fc
  .array(fc.oneof(name, fc.constantFrom("*", "**")), { maxLength: 4 })
  .map((names) => `/${names.join("/")}`);

test("a walk from the watch root gets to everything that matches, and never below what can't", () => {
  fc.assert(
    fc.property(pattern, path, fc.boolean(), (wanted, znode, recursive) => {
      const each = source(wanted, recursive);
      if (!matchesSource(each, znode)) return;
      const root = rootOf(each);
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

test("several paths are watched at their roots, without those below another", () => {
  const paths = ["/a/b", "/a", "/c/*/d", "/a/b/c/*", "/cc"];
  const several = new SourcePaths({ paths, recursive: false });
  expect([...several.roots].sort()).toEqual(["/a", "/c", "/cc"]);
  expect(["/a", "/a/b", "/c/x/d", "/a/b/c/x", "/cc"].every((path) => several.matches(path))).toBe(true);
  expect(["/b", "/a/x", "/c", "/c/x", "/cc/x"].some((path) => several.matches(path))).toBe(false);
  expect(["/a/x", "/c/x/e", "/d"].some((path) => several.leadsTo(path))).toBe(false);
  expect(new SourcePaths({ paths: ["/a", "/"], recursive: true }).roots).toEqual(["/"]);
});

test("what is excluded is left out with everything below, and not walked", () => {
  const source: ZnodeSource = { ...rootSource(), exclude: ["/a/*/tmp", "/locks"] };
  expect(["/", "/a/x", "/a/x/tmpx", "/lockss"].every((path) => matchesSource(source, path))).toBe(true);
  const left = ["/a/x/tmp", "/a/x/tmp/y", "/locks", "/locks/z"];
  expect(left.some((path) => matchesSource(source, path) || leadsToSource(source, path))).toBe(false);
});

function rootSource(): ZnodeSource {
  return source("/");
}
