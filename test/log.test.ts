import { readFileSync } from "node:fs";
import { jsonLines, silent } from "../lib/log";

let lines: string[];
const log = jsonLines(
  (line) => lines.push(line),
  () => Date.UTC(2026, 0, 2),
);

beforeEach(() => {
  lines = [];
});

function written(): Record<string, unknown> {
  expect(lines).toHaveLength(1);
  expect(lines[0]!.indexOf("\n")).toBe(lines[0]!.length - 1);
  return JSON.parse(lines[0]!);
}

test("a record is one line of JSON, even where its text has several", () => {
  log("info", "two\nlines", { a: 1, b: "x\ny" });
  expect(written()).toEqual({
    time: "2026-01-02T00:00:00.000Z",
    level: "info",
    message: "two\nlines",
    a: 1,
    b: "x\ny",
  });
});

test("zxids are written as ZooKeeper's tools show them, wherever they are", () => {
  log("warn", "m", { zxid: 255n, deep: [{ zxid: 2n ** 40n }] });
  expect(written()).toMatchObject({ zxid: "0xff", deep: [{ zxid: "0x10000000000" }] });
});

test("infinities do not become null", () => {
  log("debug", "m", { from: Number.NEGATIVE_INFINITY, to: Number.POSITIVE_INFINITY, not: Number.NaN });
  expect(written()).toMatchObject({ from: "-Infinity", to: "Infinity", not: "NaN" });
});

test("errors keep name, message and stack, those of Node's own realm too", () => {
  log("error", "m", { error: new RangeError("too much") });
  expect(written()).toMatchObject({
    error: { name: "RangeError", message: "too much", stack: expect.stringContaining("log.test") },
  });
  lines = [];
  let foreign: unknown;
  try {
    readFileSync("/nowhere/at/all");
  } catch (error) {
    foreign = error;
  }
  log("error", "m", { error: foreign });
  expect(written()).toMatchObject({ error: { message: expect.stringContaining("ENOENT") } });
});

test("silence is silent", () => {
  expect(silent("error", "m")).toBeUndefined();
});
