/** docs/zookeeper-client.md: its examples are one program, which is compiled, run, and held to what it says it prints. */
import { spawn } from "node:child_process";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import ts from "typescript";
import { type LocalZooKeeper, startZooKeeper } from "../support/zookeeper-server";

const PROJECT = join(__dirname, "..", "..");
const DOCUMENT = join(PROJECT, "docs", "zookeeper-client.md");
/** Beside the document's folder, so that the imports of the examples hold. */
const PROGRAM = join(PROJECT, "test", `.document-example-${process.pid}.ts`);

const document = readFileSync(DOCUMENT, "utf8");
const blocks = [...document.matchAll(/^```ts\n([\s\S]*?)^```$/gm)].map((match) => match[1]!);
const isImport = (line: string) => line.startsWith("import ");

function program(): string {
  const lines = blocks.flatMap((block) => block.split("\n"));
  const body = lines.filter((line) => !isImport(line)).join("\n");
  return `${lines.filter(isImport).join("\n")}
async function main(connectString: string): Promise<void> {
${body}
}
void main(process.argv[2]!);
`;
}

let server: LocalZooKeeper;
beforeAll(async () => {
  server = await startZooKeeper();
});
afterAll(async () => {
  rmSync(PROGRAM, { force: true });
  await server?.stop();
});

test("its examples compile under strict", () => {
  writeFileSync(PROGRAM, program());
  const configuration = ts.readConfigFile(join(PROJECT, "tsconfig.json"), ts.sys.readFile).config;
  const { options } = ts.parseJsonConfigFileContent(configuration, ts.sys, PROJECT);
  const checked = ts.createProgram([PROGRAM], options);
  // Of this file alone: the others are checked with the project.
  const diagnostics = ts.getPreEmitDiagnostics(checked, checked.getSourceFile(PROGRAM));
  const own = diagnostics.filter(({ file }) => file?.fileName.endsWith(".ts") && file.fileName === PROGRAM);
  expect(own.map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, "\n"))).toEqual([]);
});

test("its examples run, and print what it says", async () => {
  writeFileSync(PROGRAM, program());
  const child = spawn(process.execPath, ["--import", "tsx", PROGRAM, server.connectString], {
    cwd: PROJECT,
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  let errors = "";
  child.stdout.on("data", (chunk) => {
    output += chunk;
  });
  child.stderr.on("data", (chunk) => {
    errors += chunk;
  });
  const code = await new Promise((done) => child.once("close", done));
  expect({ code, errors }).toEqual({ code: 0, errors: "" });
  const said = [...document.matchAll(/^\/\/ prints: (.*)$/gm)].map((match) => match[1]!);
  const printed = output
    .replace(/\n {2}/g, " ")
    .replace(/\n}/g, " }")
    .trim()
    .split("\n");
  expect(printed).toHaveLength(said.length);
  for (const [index, line] of said.entries()) {
    const pattern = line.replace(/[.*+?^${}()|[\]\\]/g, "\\$&").replaceAll("\\.\\.\\.", ".*");
    expect(printed[index]).toMatch(new RegExp(`^${pattern}$`));
  }
});

test("each default that its table names is the option's", () => {
  const options = readFileSync(join(PROJECT, "lib", "zookeeper", "options.ts"), "utf8");
  for (const [name, value] of [
    ["sessionTimeoutMs", "30_000"],
    ["connectTimeoutMs", "15_000"],
    ["maxInFlight", "1_000"],
    ["maxInFlightBytes", "32 * 1024 * 1024"],
    ["maxQueuedBytes", "256 * 1024 * 1024"],
    ["juteMaxBufferBytes", "1_048_575"],
  ]) {
    expect(options).toContain(`${name}: options.${name} ?? ${value}`);
    expect(document).toContain(`\`${name}\``);
  }
});
