/** The client alone, bundled and minified as a function would have it. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buildSync } from "esbuild";

const MAX_BYTES = 60 * 1024;
const ENTRY = join(__dirname, "..", "..", "lib", "zookeeper", "index.ts");

let directory: string;
let bundle: string;

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), "beamkeeper-bundle-"));
  bundle = join(directory, "client.cjs");
  buildSync({
    entryPoints: [ENTRY],
    outfile: bundle,
    bundle: true,
    minify: true,
    platform: "node",
    target: "node20",
  });
});

afterAll(() => rmSync(directory, { recursive: true, force: true }));

test(`has at most ${MAX_BYTES} bytes`, () => {
  expect(statSync(bundle).size).toBeLessThanOrEqual(MAX_BYTES);
});

test("loads sockets, TLS, DNS and crypto only where they are used", () => {
  const program = `
    const before = new Set(process.moduleLoadList);
    require(${JSON.stringify(bundle)});
    const loaded = process.moduleLoadList.filter((name) => !before.has(name));
    process.stdout.write(JSON.stringify(loaded));
  `;
  const loaded: string[] = JSON.parse(execFileSync(process.execPath, ["-e", program], { encoding: "utf8" }));
  for (const name of ["net", "tls", "dns", "crypto", "http"])
    expect(loaded).not.toContain(`NativeModule ${name}`);
});
