export interface Instruction {
  readonly name: string;
  readonly text: string;
}

/** The instructions of a Dockerfile, in order; lines that end with a backslash go on in the next. */
export function instructionsOf(dockerfile: string): Instruction[] {
  const lines = dockerfile.replaceAll(/^\s*#.*\n/gm, "").replaceAll(/\\\n/g, " ");
  return lines
    .split("\n")
    .filter((line) => line.trim() !== "")
    .map((line) => {
      const [, name, text] = /^([A-Z]+)\s+(.+)$/.exec(line)!;
      return { name: name!, text: text! };
    });
}

/** The command of ENTRYPOINT or HEALTHCHECK in its form without a shell. Throws where there is none. */
export function commandOf(
  instructions: readonly Instruction[],
  name: "ENTRYPOINT" | "HEALTHCHECK",
): string[] {
  const found = instructions.filter((each) => each.name === name);
  if (found.length !== 1) throw new Error(`${found.length} times ${name}`);
  const { text } = found[0]!;
  return JSON.parse(text.slice(text.indexOf("[")));
}
