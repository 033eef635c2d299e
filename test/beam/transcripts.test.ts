import { readdirSync } from "node:fs";
import { join } from "node:path";
import { readTranscripts, type Transcript } from "../support/transcript-file";
import { reportTranscripts, runTranscript, shapesOf } from "../support/transcripts";

const folder = join(__dirname, "transcripts");
const forms = join(__dirname, "data", "transcript-forms");
const files = readdirSync(folder).filter((name) => name.endsWith(".yaml"));
const read = files.map((name) => [name, readTranscripts(join(folder, name))] as const);
// Those of pipelines have a suite of their own.
const all = read.filter(([, transcripts]) => transcripts.every(({ transform }) => transform === undefined));

describe.each(all)("%s", (_, transcripts) => {
  const cases = transcripts.flatMap((transcript) =>
    shapesOf(transcript).map(
      (shape) => [transcript.name, JSON.stringify(shape), { transcript, shape }] as const,
    ),
  );
  test.each(cases)("%s in %s", async (_name, _shape, { transcript, shape }) => {
    expect(await runTranscript(transcript, shape)).toBeUndefined();
  });
});

const TRIGGERS = [
  ...["default", "always", "never", "elementCount", "afterProcessingTime", "afterSynchronizedProcessingTime"],
  ...["afterEndOfWindow", "afterEndOfWindow early", "afterEndOfWindow late", "afterEndOfWindow early late"],
  ...["afterAll", "afterAny", "afterEach", "orFinally", "repeatedly"],
];
const WINDOWS = ["global", "fixed", "sliding", "sessions", "calendar", "custom", "merging"];

function triggerOf({ windowing: { trigger } }: Transcript): string {
  if (trigger.kind !== "afterEndOfWindow") return trigger.kind;
  return ["afterEndOfWindow", trigger.early && "early", trigger.late && "late"].filter(Boolean).join(" ");
}

test("the table trigger x window x accumulation x lateness has no empty cell", () => {
  const covered = new Set<string>();
  for (const transcript of all.flatMap(([, transcripts]) => transcripts)) {
    const { windowing, tags } = transcript;
    const window = WINDOWS.find((kind) => tags.has(kind));
    covered.add(
      `${triggerOf(transcript)} ${window} ${windowing.accumulating} ${windowing.allowedLatenessMs > 0}`,
    );
  }
  const missing: string[] = [];
  for (const trigger of TRIGGERS)
    for (const window of WINDOWS)
      for (const accumulating of [false, true])
        for (const lateness of [false, true]) {
          const cell = `${trigger} ${window} ${accumulating} ${lateness}`;
          if (!covered.has(cell)) missing.push(cell);
        }
  expect(missing).toEqual([]);
});

test("every transcript cites the rule that it tests", () => {
  const without = read
    .flatMap(([, transcripts]) => transcripts)
    .filter(({ rule, error }) => rule === undefined && error === undefined);
  expect(without.map(({ name }) => name)).toEqual([]);
});

test("transcripts in the forms that others write them in", async () => {
  const lines: string[] = [];
  const failed = await reportTranscripts([join(forms, "odd.yaml")], (line) => lines.push(line));
  expect(lines.filter((line) => line.startsWith("FAIL"))).toEqual([]);
  expect(failed).toBe(0);
  expect(lines).toHaveLength(11);
});

test("what is wrong with a transcript is reported with its place, and the others run", async () => {
  const lines: string[] = [];
  const file = join(forms, "wrong.yaml");
  const missing = join(forms, "missing.yaml");
  expect(await reportTranscripts([file, missing], (line) => lines.push(line))).toBe(10);
  expect(lines.map((line) => line.replaceAll(`${forms}/`, ""))).toEqual([
    "FAIL  wrong trigger: wrong.yaml:2: the trigger AfterCont is unknown",
    expect.stringMatching(/^FAIL {2}wrong step: wrong.yaml:9: the action inputt is unknown/),
    expect.stringMatching(/^FAIL {2}wrong expectation: wrong.yaml:11: .*step 2 \(expect\): Unmatched output/),
    "ok    fine",
    expect.stringMatching(/^FAIL {2}no attribute: wrong.yaml:23: a pane has no attribute valus/),
    expect.stringMatching(/^FAIL {2}none: wrong.yaml:25: a transcript is a list of steps/),
    expect.stringMatching(/^FAIL {2}unknown call: wrong.yaml:29: the call sett is unknown; there are emit, /),
    expect.stringMatching(
      /^FAIL {2}wrong output: wrong.yaml:32: in "single": step 2 \(expect\): Unmatched output: \{"value":2\}/,
    ),
    expect.stringMatching(/^FAIL {2}no such step: wrong.yaml:41: the action side_input is unknown/),
    expect.stringMatching(/^FAIL {2}a document: wrong.yaml:4[23]: /),
    expect.stringMatching(/^FAIL {2}missing.yaml: ENOENT/),
    "1 of 11 transcripts passed",
  ]);
});
