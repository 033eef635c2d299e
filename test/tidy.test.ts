import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { basename, dirname, join, posix } from "node:path";
import ts from "typescript";

/**
 * The layout and dependency rules of the project, read from the files themselves. Each rule is also tried on a
 * made-up file that breaks it, so that a rule that finds nothing is known to work.
 */
const PROJECT = join(__dirname, "..");

interface SourceFile {
  /** Relative to the project, with slashes. */
  readonly path: string;
  readonly text: string;
}

interface Rule {
  readonly name: string;
  /** What is wrong, one line for each finding; nothing where all is well. */
  readonly check: (file: SourceFile) => string[];
  readonly broken: readonly SourceFile[];
  readonly fine?: readonly SourceFile[];
}

const tracked: readonly SourceFile[] = execFileSync("git", ["ls-files", "-z"], {
  cwd: PROJECT,
  encoding: "utf8",
})
  .split("\0")
  .filter((path) => path !== "" && existsSync(join(PROJECT, path)))
  .map((path) => ({ path, text: readFileSync(join(PROJECT, path), "utf8") }));

/** What a file imports: its own project's files as paths relative to the project, everything else as it is written. */
function importsOf({ path, text }: SourceFile): string[] {
  if (!/\.[cm]?[jt]s$/.test(path)) return [];
  return ts
    .preProcessFile(text, true, true)
    .importedFiles.map(({ fileName }) =>
      fileName.startsWith(".") ? posix.normalize(posix.join(posix.dirname(path), fileName)) : fileName,
    );
}

const isIn = (path: string, folder: string): boolean => path === folder || path.startsWith(`${folder}/`);

/** Files of `from` must not import anything that `isForbidden`. */
function noImport(
  name: string,
  from: (path: string) => boolean,
  isForbidden: (imported: string, path: string) => boolean,
  broken: readonly [path: string, imported: string][],
  fine: readonly [path: string, imported: string][] = [],
): Rule {
  const made = ([path, imported]: readonly [string, string]): SourceFile => ({
    path,
    text: `import { x } from ${JSON.stringify(imported)};\n`,
  });
  return {
    name,
    check: (file) =>
      from(file.path)
        ? importsOf(file)
            .filter((imported) => isForbidden(imported, file.path))
            .map((imported) => `imports ${imported}`)
        : [],
    broken: broken.map(made),
    fine: fine.map(made),
  };
}

const inside =
  (...folders: string[]) =>
  (path: string) =>
    folders.some((folder) => isIn(path, folder));
const SOCKETS = /^(node:)?(net|tls|dgram|https?|http2)$/;

/** The code without comments and texts, so that a mention is no use. */
function codeOf({ text }: SourceFile): string {
  const scanner = ts.createScanner(ts.ScriptTarget.Latest, true, ts.LanguageVariant.Standard, text);
  let code = "";
  for (let token = scanner.scan(); token !== ts.SyntaxKind.EndOfFileToken; token = scanner.scan()) {
    const isText =
      token === ts.SyntaxKind.StringLiteral || token === ts.SyntaxKind.NoSubstitutionTemplateLiteral;
    code += isText ? " '' " : ` ${scanner.getTokenText()} `;
  }
  return code.replace(/\s+/g, " ");
}

/** Files of `from` must not use what the pattern finds in their code (tokens with one space between them). */
function noUse(
  name: string,
  from: (path: string) => boolean,
  pattern: RegExp,
  broken: SourceFile,
  fine: SourceFile,
): Rule {
  const check = (file: SourceFile): string[] => {
    if (!from(file.path) || !/\.[cm]?ts$/.test(file.path)) return [];
    return [...codeOf(file).matchAll(new RegExp(pattern, "g"))].map(
      ([found]) => `uses ${found.replaceAll(" ", "")}`,
    );
  };
  return { name, check, broken: [broken], fine: [fine] };
}

const MAX_LINES = 500;
const MAX_FUNCTION_LINES = 70;
const FORBIDDEN_NAMES = /(^|-)(utils?|helpers?|common|manager|data|info)(-|\.|$)/;
// In pieces, so that this file does not hold what it looks for.
const PLACES = new RegExp(
  ["/ro" + "ot/", "/ho" + "me/", "/wo" + "rk/", "/Us" + "ers/", "C:" + "\\\\", "/var/" + "folders/"].join(
    "|",
  ),
);
const HOSTS = /https?:\/\/[a-z0-9.-]*(registry|artifactory|nexus|npm-proxy|proxy)[a-z0-9.-]*\.[a-z]+/i;

function longFunctions({ path, text }: SourceFile): string[] {
  if (!/\.ts$/.test(path) || !inside("lib", "functions")(path)) return [];
  const file = ts.createSourceFile(path, text, ts.ScriptTarget.Latest, true);
  const found: string[] = [];
  const lineOf = (position: number): number => file.getLineAndCharacterOfPosition(position).line + 1;
  const visit = (each: ts.Node): void => {
    if (ts.isFunctionLike(each) && "body" in each && each.body) {
      const first = lineOf(each.getStart(file));
      const lines = lineOf(each.getEnd()) - first + 1;
      if (lines > MAX_FUNCTION_LINES) found.push(`line ${first}: a function of ${lines} lines`);
    }
    ts.forEachChild(each, visit);
  };
  visit(file);
  return found;
}

const RULES: readonly Rule[] = [
  noImport(
    "checkpoint and beam never import each other",
    inside("lib/checkpoint", "lib/beam"),
    (imported, path) => isIn(imported, isIn(path, "lib/beam") ? "lib/checkpoint" : "lib/beam"),
    [
      ["lib/checkpoint/x.ts", "../beam/api"],
      ["lib/beam/graph/x.ts", "../../checkpoint/layout"],
    ],
    [["lib/checkpoint/x.ts", "../zookeeper"]],
  ),
  noImport(
    "the engine imports only its own folder",
    inside("lib/beam/engine"),
    (imported) => !isIn(imported, "lib/beam/engine"),
    [
      ["lib/beam/engine/x.ts", "../errors"],
      ["lib/beam/engine/x.ts", "node:crypto"],
      ["lib/beam/engine/x.ts", "apache-beam"],
    ],
    [["lib/beam/engine/x.ts", "./windows"]],
  ),
  noImport(
    "the ZooKeeper client imports nothing else of lib, and no package",
    inside("lib/zookeeper"),
    (imported) => !isIn(imported, "lib/zookeeper") && !imported.startsWith("node:"),
    [
      ["lib/zookeeper/x.ts", "../clock"],
      ["lib/zookeeper/codec/x.ts", "zod"],
    ],
    [["lib/zookeeper/codec/x.ts", "../errors"]],
  ),
  noImport(
    "sockets only in lib/zookeeper/connection.ts and the health endpoint",
    (path) =>
      inside("lib", "functions", "pipelines")(path) &&
      path !== "lib/zookeeper/connection.ts" &&
      path !== "lib/cli/health-endpoint.ts",
    (imported) => SOCKETS.test(imported),
    [
      ["lib/relay/x.ts", "node:net"],
      ["lib/aws/x.ts", "https"],
    ],
    [["lib/zookeeper/connection.ts", "node:tls"]],
  ),
  noImport(
    "AWS only in lib/aws, functions and the plug-in that deploys",
    (path) => inside("lib", "pipelines", "infra")(path) && !inside("lib/aws", "infra/serverless")(path),
    (imported) => imported.startsWith("@aws-sdk/") || imported.startsWith("@smithy/"),
    [["lib/checkpoint/x.ts", "@aws-sdk/client-s3"]],
    [["lib/aws/x.ts", "@aws-sdk/client-s3"]],
  ),
  noImport(
    "the relay never imports beam, io, runner or aws",
    inside("lib/relay"),
    inside("lib/beam", "lib/io", "lib/runner", "lib/aws", "lib/cli"),
    [
      ["lib/relay/x.ts", "../beam/api"],
      ["lib/relay/x.ts", "../runner/bundle"],
    ],
    [["lib/relay/x.ts", "../checkpoint/layout"]],
  ),
  noImport(
    "the runner never imports relay, aws or cli",
    inside("lib/runner"),
    inside("lib/relay", "lib/aws", "lib/cli"),
    [["lib/runner/x.ts", "../relay/errors"]],
    [["lib/runner/x.ts", "../io/write-to-text"]],
  ),
  noImport(
    "io never imports relay, runner, aws or cli",
    inside("lib/io"),
    inside("lib/relay", "lib/runner", "lib/aws", "lib/cli"),
    [["lib/io/x.ts", "../runner/bundle"]],
  ),
  noImport(
    "checkpoint imports nothing that is built on it",
    inside("lib/checkpoint"),
    inside("lib/relay", "lib/runner", "lib/aws", "lib/cli", "lib/io", "functions"),
    [["lib/checkpoint/x.ts", "../relay/errors"]],
  ),
  noImport(
    "only the command imports functions, and nothing but tests imports tests",
    (path) => inside("lib", "functions", "pipelines", "infra")(path),
    (imported, path) =>
      isIn(imported, "test") || (isIn(imported, "functions") && isIn(path, "lib") && !isIn(path, "lib/cli")),
    [
      ["lib/relay/x.ts", "../../test/support/faults"],
      ["lib/runner/x.ts", "../../functions/bundle"],
    ],
    [["lib/cli/x.ts", "../../functions/bundle"]],
  ),
  noImport(
    "only the command and the testing kit import the simulator and the auditor",
    (path) =>
      inside("lib", "functions", "pipelines")(path) &&
      !inside("lib/simulation", "lib/verify", "lib/cli", "lib/testing")(path),
    inside("lib/simulation", "lib/verify"),
    [["lib/runner/x.ts", "../simulation/virtual-time"]],
    [
      ["lib/cli/x.ts", "../simulation/simulate"],
      ["lib/simulation/x.ts", "./virtual-time"],
    ],
  ),
  noImport(
    "the demonstration's writer and oracle share nothing with lib",
    inside("infra/demo"),
    inside("lib", "functions"),
    [["infra/demo/x.mjs", "../../lib/zookeeper"]],
    [["infra/demo/x.mjs", "node-zookeeper-client"]],
  ),
  noUse(
    "the environment is read only at the edge",
    (path) => isIn(path, "lib") && !isIn(path, "lib/cli"),
    /\bprocess (\.|\?\.) env\b/,
    { path: "lib/runner/x.ts", text: "const home = process.env.HOME;" },
    { path: "lib/runner/x.ts", text: "// process.env is read elsewhere\nconst home = settings;" },
  ),
  noUse(
    "time and chance are passed in",
    (path) =>
      inside("lib", "functions")(path) &&
      !isIn(path, "lib/cli") &&
      path !== "lib/clock.ts" &&
      path !== "lib/zookeeper/options.ts",
    /\b(Date \. now|Math \. random|new Date \( \)|performance \. now|(?<![.\w] )set(Timeout|Interval) \()/,
    { path: "lib/relay/x.ts", text: "const now = Date.now();" },
    { path: "lib/relay/x.ts", text: "const now = clock.now(); clock.setTimeout(x, 1);" },
  ),
  noImport(
    "timers come from the clock",
    (path) => inside("lib", "functions")(path) && path !== "lib/clock.ts" && !isIn(path, "lib/cli"),
    (imported) => /^(node:)?timers/.test(imported),
    [["lib/relay/x.ts", "node:timers/promises"]],
    [["lib/clock.ts", "node:timers/promises"]],
  ),
  {
    name: "no file is called utils, helpers, common, manager, data or info",
    check: ({ path }) => (FORBIDDEN_NAMES.test(basename(path)) ? ["has a name that says nothing"] : []),
    broken: [
      { path: "lib/relay/utils.ts", text: "" },
      { path: "lib/relay/shard-manager.ts", text: "" },
    ],
    fine: [{ path: "lib/relay/metadata-reader.ts", text: "" }],
  },
  {
    name: "source files are kebab-case",
    check: ({ path }) =>
      inside("lib", "functions", "pipelines", "test", "bench")(path) &&
      /[A-Z_ ]/.test(basename(path)) &&
      /\.ts$/.test(path)
        ? ["is not kebab-case"]
        : [],
    broken: [{ path: "lib/relay/sourceRelay.ts", text: "" }],
  },
  {
    name: `files have at most ${MAX_LINES} lines`,
    check: ({ path, text }) => {
      const lines = text.split("\n").length - 1;
      return inside("lib", "functions")(path) && lines > MAX_LINES ? [`has ${lines} lines`] : [];
    },
    broken: [{ path: "lib/relay/x.ts", text: "\n".repeat(MAX_LINES + 1) }],
    fine: [{ path: "lib/relay/x.ts", text: "\n".repeat(MAX_LINES) }],
  },
  {
    name: `functions have at most ${MAX_FUNCTION_LINES} lines`,
    check: longFunctions,
    broken: [{ path: "lib/x.ts", text: `function long() {${"\n".repeat(MAX_FUNCTION_LINES)}}` }],
    fine: [{ path: "lib/x.ts", text: `function long() {${"\n".repeat(MAX_FUNCTION_LINES - 1)}}` }],
  },
  {
    name: "no file knows a machine's folders or a private registry",
    check: ({ text }) =>
      text
        .split("\n")
        .flatMap((line, index) =>
          PLACES.test(line) || HOSTS.test(line) ? [`line ${index + 1}: ${line.trim().slice(0, 80)}`] : [],
        ),
    broken: [
      { path: "docs/x.md", text: `see ${"/ho"}me/someone/project` },
      { path: "package-lock.json", text: `"resolved": "https://${"registry"}.example.com/x.tgz"` },
    ],
    fine: [{ path: "package-lock.json", text: '"url": "https://opencollective.com/x"' }],
  },
  {
    name: "every test has its counterpart in lib",
    check: ({ path }) => {
      const folder = dirname(path).split("/")[1];
      if (!/^test\/.*\.test\.ts$/.test(path) || folder === "integration") return [];
      if (folder === undefined)
        return path === "test/tidy.test.ts" || isThere(`lib/${basename(path, ".test.ts")}.ts`)
          ? []
          : ["tests no file of lib"];
      return ["lib", "."].some((base) => isThere(join(base, dirname(path).slice("test/".length))))
        ? []
        : ["tests no folder of lib"];
    },
    broken: [
      { path: "test/nowhere/x.test.ts", text: "" },
      { path: "test/nothing.test.ts", text: "" },
    ],
    fine: [{ path: "test/relay/x.test.ts", text: "" }],
  },
];

function isThere(path: string): boolean {
  return tracked.some((file) => isIn(file.path, posix.normalize(path)));
}

test("there are files to look at", () => {
  expect(tracked.filter(({ path }) => /^lib\/.*\.ts$/.test(path)).length).toBeGreaterThan(50);
});

describe.each(RULES.map((rule) => [rule.name, rule] as const))("%s", (_name, { check, broken, fine }) => {
  test("is kept", () => {
    expect(tracked.flatMap((file) => check(file).map((finding) => `${file.path} ${finding}`))).toEqual([]);
  });

  test("is noticed where it is broken, and only there", () => {
    for (const file of broken) expect([file.path, check(file).length]).toEqual([file.path, 1]);
    for (const file of fine ?? []) expect([file.path, check(file)]).toEqual([file.path, []]);
  });
});
