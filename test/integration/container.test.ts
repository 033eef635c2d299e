/** The relay's image as far as it can be looked at without building it; package.test.ts runs its commands. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { commandOf, type Instruction, instructionsOf } from "../support/dockerfile";

const PROJECT = join(__dirname, "../..");
const FILE = "infra/container/Dockerfile";
const read = (path: string): string => readFileSync(join(PROJECT, path), "utf8");
const own = JSON.parse(read("package.json"));

let instructions: Instruction[];
const textsOf = (name: string): string[] =>
  instructions.filter((each) => each.name === name).map(({ text }) => text);

beforeAll(() => {
  instructions = instructionsOf(read(FILE));
});

test("the package brings it", () => {
  expect(own.files).toContain("infra/container");
});

test("the base image has the functions' version of Node, which the package takes", () => {
  const [, image] = /^node:(\d+)-slim$/.exec(textsOf("FROM").join())!;
  expect(read("serverless.yml")).toMatch(new RegExp(`^ {2}runtime: nodejs${image}\\.x$`, "m"));
  expect(Number(image)).toBeGreaterThanOrEqual(Number(/\d+/.exec(own.engines.node)![0]));
});

test("the entry point is the package's command, without a shell or npm between them", () => {
  const [program, file, verb] = commandOf(instructions, "ENTRYPOINT");
  expect([program, file, verb]).toEqual(["node", `node_modules/beamkeeper/${own.bin.beamkeeper}`, "relay"]);
  expect(existsSync(join(PROJECT, own.bin.beamkeeper))).toBe(true);
});

test("it is not root that runs it, and nothing is installed after that is settled", () => {
  expect(textsOf("USER")).toEqual(["node"]);
  const names = instructions.map(({ name }) => name);
  expect(names.slice(names.indexOf("USER") + 1)).toEqual(["HEALTHCHECK", "ENTRYPOINT"]);
});

test("its health is asked at the port that the relay is told", () => {
  const entry = commandOf(instructions, "ENTRYPOINT");
  const port = entry[entry.indexOf("--health") + 1]!;
  expect(commandOf(instructions, "HEALTHCHECK").join(" ")).toContain(`http://127.0.0.1:${port}/live`);
});

test("what is copied is what a project has, and nothing secret is set", () => {
  expect(textsOf("COPY")).toEqual(["package.json package-lock.json ./", "pipelines ./pipelines"]);
  const variables = textsOf("ENV").map((text) => text.split("=")[0]);
  expect(variables).toEqual(["NODE_ENV", "BEAMKEEPER_OUTPUT"]);
});
