import { parsePattern } from "../../lib/io/file-pattern";

test.each([
  ["a/b.txt", "a/b.txt", undefined, undefined],
  ["a/*.txt", "a/", ["a/b.txt", "a/.txt"], ["a/b/c.txt", "b.txt", "a/b.txt.gz"]],
  ["a/**/b", "a/", ["a/b", "a/x/b", "a/x/y/b"], ["a/.x/b", "ab", "a/xb"]],
  ["a/**", "a/", ["a/b", "a/b/c"], ["a/.b", "a/b/.c", "a"]],
  ["a/", "a/", ["a/b", "a/b.c"], ["a/b/c", "a/.b"]],
  ["a+(b)?.[c]", "a+(b)", ["a+(b)x.[c]"], ["a+(b)/.[c]", "aab.c", "a+(b).[c]"]],
  ["?", "", ["a", "é"], [".", "ab", "/"]],
])("%s", (pattern, prefix, fits, others) => {
  const parsed = parsePattern(pattern);
  expect(parsed.prefix).toBe(prefix);
  if (fits === undefined) expect(parsed.matches).toBeUndefined();
  for (const name of fits ?? [])
    expect([name, parsed.matches!.test(name)]).toEqual([name, !name.endsWith("/.txt")]);
  for (const name of others ?? []) expect([name, parsed.matches!.test(name)]).toEqual([name, false]);
});
