import { parseConnectString, shuffle } from "../../lib/zookeeper/connect-string";
import { InvalidArgumentError } from "../../lib/zookeeper/errors";
import { checkPath, withChroot, withoutChroot } from "../../lib/zookeeper/paths";

describe("connect strings", () => {
  test.each([
    ["a:1", [["a", 1]], ""],
    ["a", [["a", 2181]], ""],
    [
      "a:1,b:2/app/x",
      [
        ["a", 1],
        ["b", 2],
      ],
      "/app/x",
    ],
    [
      "a:1, b:2 /",
      [
        ["a", 1],
        ["b", 2],
      ],
      "",
    ],
    [
      "[::1]:99,[fe80::1]",
      [
        ["::1", 99],
        ["fe80::1", 2181],
      ],
      "",
    ],
  ])("%s", (text, servers, chroot) => {
    expect(parseConnectString(text)).toEqual({
      servers: servers.map(([host, port]) => ({ host, port })),
      chroot,
    });
  });

  test.each([
    ["", "it is empty"],
    ["  ", "it is empty"],
    ["/app", "a server is empty"],
    ["a:1,,b:2", "a server is empty"],
    ["a:x", '"a:x" is not host:port'],
    ["a:0", "the port 0"],
    ["a:70000", "the port 70000"],
    ["a b:1", "is not host:port"],
    ["a:1//b", "must not contain an empty name"],
    ["a:1/b/", "must not end with"],
  ])("refuses %j", (text, reason) => {
    expect(() => parseConnectString(text)).toThrow(InvalidArgumentError);
    expect(() => parseConnectString(text)).toThrow(reason);
  });

  test("servers are shuffled by the random numbers given", () => {
    expect(shuffle([1, 2, 3, 4], () => 0)).toEqual([2, 3, 4, 1]);
    expect(shuffle([1, 2, 3, 4], () => 0.999)).toEqual([1, 2, 3, 4]);
  });
});

describe("paths", () => {
  test.each(["/", "/a", "/a/b.c/..d", "/ä/日本", "/a b"])("accepts %j", (path) => {
    expect(() => checkPath(path)).not.toThrow();
  });

  test.each([
    ["", "must not be empty"],
    ["a", "must begin with"],
    ["/a/", "must not end with"],
    ["//a", "an empty name"],
    ["/a/./b", 'must not contain "."'],
    ["/..", 'must not contain ".."'],
    ["/a\u0000", "U+0000"],
    ["/a\u0085", "U+0085"],
    ["/😀", "U+D83D"],
    ["/\ufffd", "U+FFFD"],
  ])("refuses %j", (path, reason) => {
    expect(() => checkPath(path)).toThrow(InvalidArgumentError);
    expect(() => checkPath(path)).toThrow(reason);
  });

  test("a sequential create may end with a slash", () => {
    expect(() => checkPath("/a/", true)).not.toThrow();
    expect(() => checkPath("/", true)).not.toThrow();
    expect(() => checkPath("/a//", true)).toThrow("an empty name");
  });

  test("a chroot comes and goes", () => {
    for (const path of ["/", "/a", "/a/b"])
      expect(withoutChroot("/app", withChroot("/app", path))).toBe(path);
    expect(withChroot("/app", "/")).toBe("/app");
    expect(withChroot("", "/a")).toBe("/a");
  });
});
