/**
 * Finds or installs the local ZooKeeper server and its Java. Plain Node without dependencies, because it runs
 * before the npm packages are there.
 *
 * The result is `.beamkeeper/zookeeper-server.json`, `{ version, classpath }`, which `server.ts` reads.
 */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { delimiter, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const HERE = dirname(fileURLToPath(import.meta.url));
const POM = join(HERE, "pom.xml");
const DEBIAN_JAR = "/usr/share/java/zookeeper.jar";
const DEBIAN_LOGGER = "/usr/share/java/slf4j-simple.jar";

/** A set-up step that can't be done here; the message says what the person has to do. */
export class SetupError extends Error {}

export function isOnPath(command) {
  return (process.env.PATH ?? "")
    .split(delimiter)
    .some((directory) => directory && existsSync(join(directory, command)));
}

const SHOWN_LINES = 12;

/** A tool says what is wrong in its first lines or in its last. */
function endsOf(output) {
  const lines = output.trim().split("\n");
  if (lines.length <= 2 * SHOWN_LINES) return lines.join("\n");
  return [...lines.slice(0, SHOWN_LINES), "...", ...lines.slice(-SHOWN_LINES)].join("\n");
}

/** Runs a command quietly; a failure throws with the ends of its output. */
export function run(command, args, options = {}) {
  const result = spawnSync(command, args, {
    encoding: "utf8",
    stdio: ["ignore", "pipe", "pipe"],
    ...options,
  });
  if (result.status === 0) return result.stdout;
  const output = endsOf(`${result.stdout ?? ""}${result.stderr ?? ""}`);
  throw new SetupError(`${command} ${args.join(" ")} failed:\n${result.error?.message ?? output}`);
}

function canInstallPackages() {
  return process.getuid?.() === 0 && isOnPath("apt-get");
}

/** Installs a Debian package, and refreshes the package lists only where it isn't found without. */
function aptInstall(name) {
  const options = { env: { ...process.env, DEBIAN_FRONTEND: "noninteractive" } };
  const install = () => run("apt-get", ["install", "-y", "-q", "--no-install-recommends", name], options);
  try {
    install();
  } catch {
    run("apt-get", ["update", "-q"], options);
    install();
  }
}

export function ensureJava(say) {
  if (isOnPath("java")) return;
  if (!canInstallPackages()) {
    throw new SetupError(
      "Java is missing: ZooKeeper runs on it. Install a Java runtime, 17 or newer (on Debian or Ubuntu: " +
        "sudo apt-get install default-jre-headless), so that `java` is on the PATH, and run this again. " +
        "Or set ZOOKEEPER_CONNECT=host:port to use a ZooKeeper that runs elsewhere.",
    );
  }
  say("Installing Java (Debian package default-jre-headless) ...");
  aptInstall("default-jre-headless");
}

function pinnedVersion() {
  return /<zookeeper\.version>([^<]+)</.exec(readFileSync(POM, "utf8"))[1];
}

function fetchWithMaven(directory, version, say) {
  const target = join(directory, `zookeeper-${version}`);
  const isComplete = () => existsSync(join(target, `zookeeper-${version}.jar`));
  if (!isComplete()) {
    say(`Fetching ZooKeeper ${version} with Maven ...`);
    // Renamed only when whole, so that an interrupted or a second set-up never sees half of it.
    const partial = `${target}.${process.pid}.partial`;
    run("mvn", ["-q", "-B", "-f", POM, "dependency:copy", `-DoutputDirectory=${partial}`]);
    try {
      renameSync(partial, target);
    } catch (error) {
      rmSync(partial, { recursive: true, force: true });
      if (!isComplete()) throw error;
    }
  }
  return readdirSync(target)
    .filter((name) => name.endsWith(".jar"))
    .sort()
    .map((name) => join(target, name));
}

function debianVersion() {
  // biome-ignore lint/suspicious/noTemplateCurlyInString: a format of dpkg-query
  return run("dpkg-query", ["-W", "-f", "${Version}", "libzookeeper-java"]).split("-")[0];
}

function useDebianPackage(say) {
  if (!existsSync(DEBIAN_JAR) || !existsSync(DEBIAN_LOGGER)) {
    if (!canInstallPackages()) {
      throw new SetupError(
        "No ZooKeeper server can be installed here. Install Maven (on Debian or Ubuntu: sudo apt-get install " +
          "maven) and run this again; or install the system's package (sudo apt-get install libzookeeper-java " +
          "libslf4j-java); or set ZOOKEEPER_CONNECT=host:port to use a ZooKeeper that runs elsewhere.",
      );
    }
    say("Installing ZooKeeper (Debian packages libzookeeper-java and libslf4j-java; Maven is not there) ...");
    aptInstall("libzookeeper-java");
    aptInstall("libslf4j-java");
  }
  const version = debianVersion();
  say(
    `Warning: this is the system's ZooKeeper ${version}, which is older than ${pinnedVersion()} and has known faults ` +
      "(child paths leak to watchers without permission, transactions can be lost, events carry no zxid). It serves " +
      "for trying things out. Install Maven and run this again to get the newer one.",
  );
  return { version, classpath: [DEBIAN_JAR, DEBIAN_LOGGER] };
}

/** Makes sure of a server, and writes down where it is. Does nothing when that is done already. */
export function ensureZooKeeper(directory, say) {
  const record = join(directory, "zookeeper-server.json");
  const version = pinnedVersion();
  if (existsSync(record)) {
    const known = JSON.parse(readFileSync(record, "utf8"));
    const isCurrent = known.version === version || !isOnPath("mvn");
    if (isCurrent && known.classpath.every((path) => existsSync(path))) return;
  }
  mkdirSync(directory, { recursive: true });
  const server = isOnPath("mvn")
    ? { version, classpath: fetchWithMaven(directory, version, say) }
    : useDebianPackage(say);
  const partial = `${record}.${process.pid}.partial`;
  writeFileSync(partial, `${JSON.stringify(server, null, 2)}\n`);
  renameSync(partial, record);
}
