import { connect } from "../../lib/zookeeper";
import { beamkeeper, beamkeeperProcess } from "../support/command";
import { readFolder, readTree, temporaryFolder } from "../support/deployment";
import { type LocalZooKeeper, startZooKeeper } from "../support/zookeeper-server";

const FILE = "test/support/pipelines/lengths.ts";

let ensemble: LocalZooKeeper;
let folder: ReturnType<typeof temporaryFolder>;
let environment: Record<string, string>;

beforeAll(async () => {
  ensemble = await startZooKeeper();
  folder = temporaryFolder();
  environment = { ZOOKEEPER_CONNECT: ensemble.connectString, BEAMKEEPER_OUTPUT: folder.path };
});

afterAll(async () => {
  await ensemble?.stop();
  folder?.remove();
});

test("a bounded pipeline is run once, and its results are there", async () => {
  const { code, output, errors } = await beamkeeperProcess(environment, "dev", FILE);
  expect(errors).toBe("");
  expect(output).toMatch(/Running "lengths" once, as .*\n(.*\n)*.* succeeded \(manual, attempt 1\)/);
  expect(code).toBe(0);
  const client = await connect({ connectString: ensemble.connectString });
  const lengths = await readTree(client, "/lengths");
  await client.close();
  expect([...lengths].filter(([path]) => path !== "").sort()).toEqual([
    ["/2", "5"],
    ["/3", "1"],
    ["/4", "1"],
  ]);
  expect([...readFolder(folder.path).values()].flat().length).toBe(3);
  const listed = await beamkeeper(environment, "runs", "list", "lengths", "--json");
  expect(JSON.parse(listed.output).runs).toMatchObject([{ state: "succeeded", cause: "manual" }]);
});

test("a run that fails says why, and the exit code shows it", async () => {
  const { code, errors } = await beamkeeperProcess({ ...environment, BAD_WORD: "bad" }, "dev", FILE);
  expect(errors).toMatch(/ failed \(manual, attempt 1\)\n(.*\n)*.*that is no word/);
  expect(code).toBe(1);
});

test("with a schedule it runs when it is due, and what the command asks for", async () => {
  const scheduled = { ...environment, EVERY: "1 minute", BEAMKEEPER_ROOT: "/scheduled" };
  const running = beamkeeperProcess(scheduled, "dev", FILE, "--seconds", "20");
  const asked = async (): Promise<void> => {
    const { code } = await beamkeeper(scheduled, "runs", "start", "lengths");
    if (code !== 0) await new Promise((again) => setTimeout(again, 100)).then(asked);
  };
  await asked();
  const { code, output } = await running;
  expect(output).toMatch(/The schedule of "lengths" runs next at \d{4}-/);
  expect(output).toMatch(/ succeeded \(manual, attempt 1\)/);
  expect(code).toBe(0);
});
