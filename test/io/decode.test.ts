import { inspect } from "node:util";
import type { ZnodeChange } from "../../lib/checkpoint/znode-change";
import { readZnodeChanges } from "../../lib/index";
import { bytes, decodeChange, json, text, ZnodeDecodeError } from "../../lib/io/decode";

function change(data: string | Buffer | null, previous?: Buffer | null): ZnodeChange {
  const buffer = data === null ? null : Buffer.from(data);
  return {
    ...{
      path: "/app/a",
      kind: buffer ? "changed" : "deleted",
      data: buffer,
      text: buffer?.toString() ?? null,
    },
    ...{ version: 7, czxid: 1n, mzxid: 0x2an, zxid: 0x2an, ctimeMs: 0, mtimeMs: 0, missed: 0 },
    ...{ missedAtLeast: false, cversion: 0, aversion: 0, numChildren: 0, isEphemeral: false },
    ...(previous === undefined ? {} : { previous }),
  };
}

test("JSON, text and bytes", () => {
  expect(decodeChange(json<{ a: number }>(), change(`{"a":1}`)).value).toEqual({ a: 1 });
  expect(decodeChange(text(), change("grün")).value).toBe("grün");
  expect(decodeChange(bytes(), change("x")).value).toEqual(Buffer.from("x"));
  expect(decodeChange(json(), change(null)).value).toBeNull();
});

test("the value before is decoded too, and is no second error where it can't be", () => {
  const before = (previous?: Buffer | null) => decodeChange(json<number>(), change("2", previous));
  expect(before(Buffer.from("1")).previousValue).toBe(1);
  expect(before(Buffer.from("{")).previousValue).toBeNull();
  expect(before(null).previousValue).toBeNull();
  expect("previousValue" in before()).toBe(false);
});

test("what can't be decoded is an error that names the znode and the way out", () => {
  for (const decoder of [
    json(),
    json(() => {
      throw new Error("no team");
    }),
    text(),
  ]) {
    const attempt = () => decodeChange(decoder as never, change(Buffer.from([0x22, 0xff, 0x22])));
    expect(attempt).toThrow(ZnodeDecodeError);
    expect(attempt).toThrow(
      /^\/app\/a: the value of version 7 \(3 bytes, zxid 0x2a\) is not (JSON|UTF-8 text): .*exclude/,
    );
  }
});

test.each([
  "hunter2",
  '{"password": hunter2}',
  '{"password": "hunter2"',
  '{"password": "hunter2\n"}',
  '"hunter2" "hunter2"',
])("an error about JSON, which is logged, shows nothing of the value: %j", (value) => {
  const failure = (): ZnodeDecodeError => {
    try {
      decodeChange(json(), change(value));
    } catch (error) {
      return error as ZnodeDecodeError;
    }
    throw new Error("it was decoded");
  };
  expect(inspect(failure(), { depth: 5 })).not.toMatch(/hunter|password/);
  expect(failure().message).toMatch(/is not JSON: \w/);
});

test("options are checked where the source is made", () => {
  const wrong = (options: object) => () => readZnodeChanges("/app", options as never);
  expect(wrong({ decode: "json" })).toThrow(/decode must be a decoder/);
  expect(wrong({ kinds: ["updated"] })).toThrow(/kinds must be a list of existing, created/);
  expect(wrong({ kinds: [] })).toThrow(/kinds must be/);
  expect(wrong({ filter: { a: "b" } })).toThrow(/filter.a must be/);
  expect(wrong({ exclude: "tmp" })).toThrow(/path to exclude "tmp" must begin/);
  expect(wrong({ previous: 1 })).toThrow(/previous must be true or false/);
  expect(() => readZnodeChanges([])).toThrow(/needs a path/);
  expect(() => readZnodeChanges(["/a", "b"])).toThrow(/"b" must begin/);
});
