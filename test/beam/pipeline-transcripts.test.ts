import { readdirSync } from "node:fs";
import { join } from "node:path";
import { SHAPES } from "../support/memory-runner";
import { readTranscripts } from "../support/transcript-file";
import { runTranscript } from "../support/transcripts";

/** Transcripts of state and timers, of side inputs and of reads in parts, each in bundles of every shape. */
const folder = join(__dirname, "transcripts");
const files = readdirSync(folder).filter((name) => name.endsWith(".yaml"));
const transcripts = files
  .flatMap((name) => readTranscripts(join(folder, name)))
  .filter(({ transform }) => transform !== undefined);

describe.each(SHAPES)("in bundles of shape %j", (shape) => {
  test.each(transcripts.map((transcript) => [transcript.name, transcript] as const))(
    "%s",
    async (_, transcript) => {
      expect(await runTranscript(transcript, shape)).toBeUndefined();
    },
  );
});

test("there are transcripts of each transform, and each expects something", () => {
  const kinds = new Set(transcripts.map(({ transform }) => transform!.kind));
  expect([...kinds].sort()).toEqual(["read", "side_input", "stateful"]);
  const silent = transcripts.filter(({ steps }) => !steps.some(({ kind }) => kind === "expect"));
  expect(silent.map(({ name }) => name)).toEqual([]);
});
