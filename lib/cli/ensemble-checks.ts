/** What `beamkeeper check` asks of an ensemble. It reads, and writes nothing but its session. */
import type { CompiledPipeline } from "../beam/api";
import { SourcePaths } from "../checkpoint/znode-source";
import type { PipelinePlan } from "../runner/deployment";
import type { Settings } from "../settings";
import { type Acl, NoAuthError, NoNodeError, type ZooKeeper } from "../zookeeper";
import { guardVersions, UnsafeServerError } from "../zookeeper/recipes/version-guard";
import { estimate, type PipelineShape } from "./estimate";
import { type Finding, failure, ok, warning } from "./finding";
import { grouped } from "./terminal";

const READ = 1;
const CREATE = 4;
/** Read, write, create and delete: everything but changing ACLs. */
const OWN = 15;
const RIGHTS = [
  [READ, "read"],
  [2, "write"],
  [CREATE, "create"],
  [8, "delete"],
] as const;
/** A walk reads every znode; more than this takes minutes and some 70 MB a million. */
const MANY_ZNODES = 1_000_000;
/** What three small servers commit (ARCHITECTURE.md, What breaks first). */
const USUAL_WRITES_PER_SECOND = 900;
/** Beside the bundles: two relays, and the batch function at work and at its look. */
const OTHER_CONNECTIONS = 4;
const DEFAULT_CONNECTIONS = 60;

/** Each server's version, and whether it may be used. */
export async function checkVersions(client: ZooKeeper): Promise<Finding[]> {
  const versions = await client.serverVersions();
  const silent = versions.filter(({ version }) => version === undefined).map(({ server }) => server);
  try {
    const found = await guardVersions(client);
    const warnings = found.map(({ server, version = "", issue, text }) =>
      warning(
        `server ${server}`,
        `${version} ${issue}: ${text}`.trim(),
        "see docs/zookeeper-client.md; 3.9.3 and newer have none of it",
      ),
    );
    const known = versions.filter(({ version }) => version !== undefined);
    return [
      ...known.map(({ server, version }) => ok(`server ${server}`, `runs ${version}`)),
      ...warnings.filter(({ about }) => !silent.some((server) => about.endsWith(server))),
      ...silent.map((server) =>
        warning(
          `server ${server}`,
          "did not tell its version: it is out of reach, or srvr is not in 4lw.commands.whitelist",
          "start it or correct ZOOKEEPER_CONNECT; or allow srvr",
        ),
      ),
    ];
  } catch (error) {
    if (!(error instanceof UnsafeServerError)) throw error;
    return error.findings.map(({ server, version, issue, text }) =>
      failure(
        `server ${server}`,
        `${version} ${issue}: ${text}`,
        "update the server before anything is deployed",
      ),
    );
  }
}

type Identity = { readonly scheme: string; readonly user: string };

/** Whether functions with these credentials may do below the root what they have to. */
export async function checkRoot(client: ZooKeeper, root: string): Promise<Finding> {
  const about = `rights at ${root}`;
  // Servers before 3.7 don't know it; then only the rights of everyone are known.
  const identities = await client.whoAmI().catch((): Identity[] => []);
  const names = root.split("/").slice(1);
  for (let depth = names.length; depth >= 0; depth--) {
    const path = depth === 0 ? "/" : `/${names.slice(0, depth).join("/")}`;
    try {
      const { acl } = await client.getAcl(path);
      const isRoot = depth === names.length;
      const wanted = isRoot ? OWN : CREATE;
      const missing = wanted & ~permissions(acl, identities);
      const what = isRoot
        ? "read, write, create and delete are granted"
        : `${root} can be created below ${path}`;
      if (missing === 0) return ok(about, what);
      const lacking = RIGHTS.filter(([right]) => missing & right).map(([, name]) => name);
      return failure(
        about,
        `${lacking.join(", ")} at ${path} is not granted to ${identities.map(({ scheme, user }) => `${scheme}:${user}`).join(", ") || "everyone"}`,
        `grant it with setAcl, or give the functions the credentials that have it (ZOOKEEPER_SECRET)`,
      );
    } catch (error) {
      if (error instanceof NoAuthError)
        return failure(
          about,
          `the ACL of ${path} may not be read`,
          "grant read at it, or change ZOOKEEPER_SECRET",
        );
      if (!(error instanceof NoNodeError)) throw error;
    }
  }
  return failure(
    about,
    "the path behind the servers in ZOOKEEPER_CONNECT does not exist",
    "create it, or leave it out",
  );
}

/** The permissions of the entries that are for one of the identities, or for everyone. */
function permissions(acl: readonly Acl[], identities: readonly Identity[]): number {
  const isOurs = ({ scheme, id }: Acl): boolean =>
    scheme === "world" ||
    // A digest's id has a hash behind the name, an address a mask.
    identities.some(
      (own) =>
        own.scheme === scheme &&
        (own.user === id ||
          (/[:/]/.test(id.slice(own.user.length, own.user.length + 1)) && id.startsWith(own.user))),
    );
  return acl.filter(isOurs).reduce((rights, { perms }) => rights | perms, 0);
}

/** Whether what a pipeline watches on that ensemble (default: the root's) may be read, and how many znodes that is. */
export async function checkSources(
  client: ZooKeeper,
  { name, sources }: PipelinePlan,
  ensemble?: string,
): Promise<Finding[]> {
  const there = sources.filter(({ source }) => source.ensemble === ensemble);
  const roots = there.flatMap(({ source }) => new SourcePaths(source).roots);
  return Promise.all([...new Set(roots)].map((path) => checkSource(client, name, path)));
}

async function checkSource(client: ZooKeeper, name: string, path: string): Promise<Finding> {
  const about = `${name} watches ${path}`;
  try {
    await client.getData(path);
    const znodes = (await client.getAllChildrenNumber(path)) + 1;
    const text = `${grouped(znodes)} znodes, each of which a walk reads`;
    if (znodes <= MANY_ZNODES) return ok(about, text);
    return warning(
      about,
      text,
      "watch a smaller part, or exclude some; give the relay more memory (70 MB a million)",
    );
  } catch (error) {
    if (error instanceof NoNodeError)
      return warning(
        about,
        "there is no such znode yet",
        "nothing needs to be done where it is created later; else correct the path",
      );
    if (error instanceof NoAuthError)
      return failure(about, "it may not be read", "grant read at it and below to the functions' credentials");
    throw error;
  }
}

/** Whether the znodes are there whose values a pipeline takes up, and may be read. */
export function checkFollowed(
  client: ZooKeeper,
  { name, followed }: Pick<CompiledPipeline, "name" | "followed">,
): Promise<Finding[]> {
  const paths = [...new Set(followed.map(({ path }) => path))];
  return Promise.all(
    paths.map(async (path) => {
      const about = `${name} follows ${path}`;
      try {
        return ok(about, `${grouped((await client.getData(path)).data.length)} bytes`);
      } catch (error) {
        if (error instanceof NoNodeError)
          return warning(
            about,
            "there is no such znode yet",
            "create it: without a default, bundles wait for it",
          );
        if (error instanceof NoAuthError)
          return failure(about, "it may not be read", "grant read at it to the functions' credentials");
        throw error;
      }
    }),
  );
}

/** Whether every server takes the connections that functions behind one address can open. */
export async function checkConnections(
  client: ZooKeeper,
  shapes: readonly PipelineShape[],
  { maxInFlight }: Settings,
): Promise<Finding[]> {
  const needed =
    shapes.reduce((sum, { shards }) => sum + Math.min(maxInFlight, shards), 0) + OTHER_CONNECTIONS;
  const need = `functions behind one address may open ${needed} connections`;
  return (await client.connectionLimits()).map(({ server, perAddress }): Finding => {
    const about = `connections to ${server}`;
    const remedy = `raise maxClientCnxns above ${needed}, or lower BEAMKEEPER_MAX_IN_FLIGHT`;
    if (perAddress === undefined) {
      const text = `${need}; the server does not tell how many it takes (${DEFAULT_CONNECTIONS} unless it was changed)`;
      return needed < DEFAULT_CONNECTIONS ? ok(about, text) : warning(about, text, remedy);
    }
    if (perAddress === 0) return ok(about, `${need}; it takes any number`);
    const text = `${need}; it takes ${perAddress}`;
    return perAddress > needed ? ok(about, text) : failure(about, text, remedy);
  });
}

/** The writes that pipelines make with that many changes a second each. */
export function checkWrites(
  shapes: readonly PipelineShape[],
  { idleIntervalMs, lingerMs, writesPerSecond }: Settings,
  changesPerSecond: number,
): Finding {
  const rates = {
    changesPerSecond,
    eventsPerSecond: changesPerSecond,
    invocationSeconds: 0.1,
    idleSeconds: idleIntervalMs / 1000,
    lingerSeconds: lingerMs / 1000,
  };
  const writes = estimate(shapes, rates).writesPerSecond;
  const text = `about ${grouped(Math.ceil(writes))} a second with ${changesPerSecond} changes a second of each pipeline, and as many events of each source`;
  if (writes <= USUAL_WRITES_PER_SECOND || writesPerSecond <= USUAL_WRITES_PER_SECOND)
    return ok("writes", text);
  return warning(
    "writes",
    `${text}; three small servers commit some ${USUAL_WRITES_PER_SECOND}`,
    "set BEAMKEEPER_WRITES_PER_SECOND, or use fewer stages",
  );
}
