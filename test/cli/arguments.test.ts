import { commandsIn, usageOf } from "../../lib/cli/arguments";

const USAGE = `beamkeeper one PIPELINE     does this
    [--a]                   and that
beamkeeper two              does something else
    [--b]                   or not

Exit codes: 0 done.`;

test("of a usage text a mistake shows what is about its command, and what is about all", () => {
  expect(commandsIn(USAGE)).toEqual(["one", "two"]);
  expect(usageOf("one", USAGE)).toBe(
    "beamkeeper one PIPELINE     does this\n    [--a]                   and that\n\nExit codes: 0 done.",
  );
  expect(usageOf("two", USAGE)).toBe(
    "beamkeeper two              does something else\n    [--b]                   or not\n\nExit codes: 0 done.",
  );
  expect(usageOf("three", USAGE)).toBe(USAGE);
});
