import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { build } from "esbuild";

import functionBuildOptions = require("../../infra/esbuild/options");

const PROJECT = join(__dirname, "../..");

/** A program that processes of a test run. */
export interface Program {
  /** Its one file of JavaScript, from the first test on. */
  readonly file: string;
}

/**
 * Bundles `test/support/NAME.ts` for the tests of a file, with the options of deployed functions; the AWS clients are
 * left out. Such a process starts with an eighth of the CPU that compiling each module takes.
 */
export function useProgram(name: string): Program {
  const folder = mkdtempSync(join(tmpdir(), "beamkeeper-program-"));
  beforeAll(async () => {
    await build({
      ...functionBuildOptions(),
      minify: false,
      sourcemap: false,
      external: ["./*-client.js"],
      absWorkingDir: PROJECT,
      entryPoints: [`test/support/${name}.ts`],
      outdir: folder,
    });
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  return { file: join(folder, `${name}.js`) };
}
