import { spawn } from "node:child_process";
import { useProgram } from "../support/program";
import { type LocalZooKeeper, startZooKeeper } from "../support/zookeeper-server";

const MEGABYTES = 100;
// What the SDK and the code take, and far less than the group.
const HEAP_MEGABYTES = 110;

const program = useProgram("program-with-large-group");
let server: LocalZooKeeper;

beforeAll(async () => {
  server = await startZooKeeper();
});

afterAll(() => server?.stop());

function run(
  mode: "streamed" | "held",
): Promise<{ code: number | null; output: string; complaints: string }> {
  const options = [`--max-old-space-size=${HEAP_MEGABYTES}`, program.file];
  const child = spawn(process.execPath, [...options, server.connectString, `${MEGABYTES}`, mode]);
  let [output, complaints] = ["", ""];
  child.stdout.on("data", (data) => {
    output += data;
  });
  child.stderr.on("data", (data) => {
    complaints += data;
  });
  return new Promise((resolve) => child.once("close", (code) => resolve({ code, output, complaints })));
}

test("a group of 100 MB is grouped, emitted and grouped again with a heap of less", async () => {
  const { output, complaints } = await run("streamed");
  expect(complaints).toBe("");
  const { halves, blobs } = JSON.parse(output);
  expect(halves.map(({ count }: { count: number }) => count)).toEqual([800, 800]);
  expect(halves.map(({ bytes }: { bytes: number }) => bytes)).toEqual([800 * 65_536, 800 * 65_536]);
  expect(blobs).toBe(0);
});

test("a function that holds the group has not the memory for it", async () => {
  const { code, complaints } = await run("held");
  expect(code).not.toBe(0);
  expect(complaints).toContain("heap");
});
