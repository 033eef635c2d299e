import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { build } from "esbuild";

import bundling = require("../../infra/esbuild/options");

import { compilePipeline } from "../../lib/index";
import definition from "../support/bundled/closures-pipeline";
import { runClosures } from "../support/bundled/run-closures";

/** With the SDK and without AWS clients. */
const LARGEST_BUNDLE_BYTES = 600_000;

describe("a bundled and minified pipeline", () => {
  let folder: string;
  let outfile: string;

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), "beamkeeper-bundle-"));
    outfile = join(folder, "print-result.js");
    const entries = ["print-result", "print-failure", "print-schedule"];
    await build({
      ...bundling(),
      entryPoints: entries.map((name) => join(__dirname, `../support/bundled/${name}.ts`)),
      outdir: folder,
      alias: { beamkeeper: join(__dirname, "../../lib/index.ts") },
    });
  });

  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  test("runs without eval and gives what the unbundled one gives, the fingerprint included", () => {
    const output = execFileSync(process.execPath, ["--disallow-code-generation-from-strings", outfile], {
      encoding: "utf8",
      cwd: folder,
    });
    const unbundled = runClosures(compilePipeline(definition));
    expect(JSON.parse(output)).toEqual(JSON.parse(JSON.stringify(unbundled)));
    expect(unbundled.effects).toHaveLength(5);
  });

  test("logs the user's stack, in the names and lines of the TypeScript file", () => {
    const args = ["--enable-source-maps", join(folder, "print-failure.js")];
    const { error } = JSON.parse(execFileSync(process.execPath, args, { encoding: "utf8" }));
    const [message, cause, ...frames] = error.stack.split("\n");
    expect(message).toBe(
      `UserCodeError: pipeline "failing", transform "map" on element '/a': RangeError: no /a`,
    );
    expect(cause).toBe("RangeError: no /a");
    expect(frames[0]).toMatch(/^ +at failOnPurpose \(.*bundled\/print-failure\.ts:8:9\)$/);
    expect(frames[1]).toMatch(/bundled\/print-failure\.ts:17:\d+/);
  });

  test("has nothing of the SDK that only serialisation asks for", () => {
    expect(readFileSync(outfile, "utf8")).not.toMatch(/__createBinding|\.__closure|registerObject/);
  });

  test("compiles the modules that it runs while it loads at once, and has no mark left of them", () => {
    const text = readFileSync(outfile, "utf8");
    expect(text).not.toMatch(/\$(begin|end)\d/);
    // What a module of the SDK begins with, in a function in parentheses.
    expect(text).toMatch(/\(\(function\([\w$]+(,[\w$]+)*\)\{ *"use strict"; {5}/);
  });

  test("loads the library for cron expressions, which lies beside it, with the first one", () => {
    expect(readFileSync(outfile, "utf8")).not.toMatch(/CronPattern: Syntax/);
    const output = execFileSync(process.execPath, [join(folder, "print-schedule.js")], { encoding: "utf8" });
    expect(output).toBe(`cron(0 12 * * ? *) ${12 * 3_600_000}`);
  });

  test("is small", () => {
    expect(statSync(outfile).size).toBeLessThan(LARGEST_BUNDLE_BYTES);
  });
});
