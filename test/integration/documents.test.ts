import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { connect } from "../../lib/zookeeper";
import { Deployment, readFolder, readTree, temporaryFolder } from "../support/deployment";
import readmePipeline from "../support/pipelines/readme";
import { startZooKeeper } from "../support/zookeeper-server";

const PROJECT = join(__dirname, "../..");
const read = (name: string): string => readFileSync(join(PROJECT, name), "utf8");

test("the README's pipeline is the one that is tested", () => {
  const [, code] = /```ts\n([\s\S]*?)```/.exec(read("README.md")) ?? [];
  expect(code).toBe(read("test/support/pipelines/readme.ts"));
});

test("the README's pipeline runs", async () => {
  const folder = temporaryFolder();
  const ensemble = await startZooKeeper();
  const client = await connect({ connectString: ensemble.connectString });
  const place = { root: "/beamkeeper", output: folder.path, connectString: ensemble.connectString };
  const deployment = new Deployment({ ...place, definition: readmePipeline });
  try {
    await deployment.settled(client);
    for (const path of ["/dubbo", "/dubbo/orders", "/dubbo/orders/providers", "/dubbo/orders/consumers"])
      await client.create(path);
    await client.create("/dubbo/orders/consumers/not-counted");
    await client.create("/dubbo/orders/providers/one");
    await deployment.settled(client);
    const alerts = await readTree(client, "/alerts");
    const lines = [...readFolder(folder.path).values()].flat().map((line) => JSON.parse(line));
    // The znode `providers` itself and its first child; in one window or in two.
    expect(lines.reduce((sum, { flaps }) => sum + flaps, 0)).toBe(2);
    expect(JSON.parse(alerts.get("/orders")!)).toEqual(lines.at(-1));
    expect(lines.every(({ service }) => service === "orders")).toBe(true);
  } finally {
    await deployment.end();
    await client.close();
    await ensemble.stop();
    folder.remove();
  }
});

test("every setting that the README names exists, and every file that the documents link to", () => {
  const settings = read("lib/settings.ts");
  for (const [name] of read("README.md").matchAll(/BEAMKEEPER_[A-Z_]+/g))
    expect(settings).toContain(`${name}:`);
  for (const document of ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"]) {
    for (const [, target] of read(document).matchAll(/\]\((?!https?:)([^)#]+)/g)) {
      expect({ document, target, exists: existsSync(join(PROJECT, target!)) }).toEqual({
        document,
        target,
        exists: true,
      });
    }
  }
});

test("every file that ARCHITECTURE.md names exists", () => {
  const text = read("ARCHITECTURE.md");
  const [, map] = /## File map\n\n```\n([\s\S]*?)```/.exec(text) ?? [];
  let folder = "";
  for (const line of map!.split("\n").filter(Boolean)) {
    const entry = /^( {0,2})([a-z][a-z-]*)\/ /.exec(line);
    if (entry) folder = entry[1] === "" ? entry[2]! : `lib/${entry[2]}`;
    const place = /^ {2}[a-z-]+\.ts/.test(line) ? "lib" : folder;
    for (const [name] of line.matchAll(/\b[a-z0-9-]+\.(?:ts|mjs)\b/g)) {
      expect({ line, name, exists: existsSync(join(PROJECT, place, name)) }).toEqual({
        line,
        name,
        exists: true,
      });
    }
  }
  for (const [, path] of text.matchAll(/`((?:lib|functions|infra|test|bench|pipelines)\/[\w./-]+)`/g)) {
    expect({ path, exists: existsSync(join(PROJECT, path!)) }).toEqual({ path, exists: true });
  }
});
