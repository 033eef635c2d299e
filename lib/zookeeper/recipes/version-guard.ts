import { type Outcome, type ZooKeeper, ZooKeeperError } from "../index";

export type Severity = "refuse" | "warn";

/** A fault of servers that concerns those who trust the data, or the permissions, of an ensemble. */
export interface KnownFault {
  readonly issue: string;
  readonly severity: Severity;
  readonly text: string;
  /** The versions that have it: from the first to the last, both included. */
  readonly ranges: readonly (readonly [first: string, last: string])[];
}

/** Read from ZooKeeper's issue tracker. */
export const KNOWN_FAULTS: readonly KnownFault[] = [
  {
    issue: "no persistent watches",
    severity: "refuse",
    text: "the server does not know addWatch; 3.6 is the first that does",
    ranges: [["0.0.0", "3.5.999"]],
  },
  {
    issue: "ZOOKEEPER-4925",
    severity: "refuse",
    text: "committed data can be lost; upgrade to 3.9.4 or newer",
    ranges: [["3.9.3", "3.9.3"]],
  },
  {
    issue: "CVE-2024-23944",
    severity: "warn",
    text: "watchers hear paths that they may not read; upgrade to 3.8.4, 3.9.2 or newer",
    ranges: [
      ["3.6.0", "3.7.2"],
      ["3.8.0", "3.8.3"],
      ["3.9.0", "3.9.1"],
    ],
  },
  {
    issue: "ZOOKEEPER-4785",
    severity: "warn",
    text: "transactions can be lost when a follower crashes; upgrade to 3.9.2 or newer",
    ranges: [
      ["3.6.0", "3.8.4"],
      ["3.9.0", "3.9.1"],
    ],
  },
  {
    issue: "ZOOKEEPER-4219",
    severity: "warn",
    text: "a quota breaks setData inside a multi",
    ranges: [["3.6.0", "3.8.0"]],
  },
];

export interface Finding {
  readonly server: string;
  /** Undefined where the server does not tell. */
  readonly version: string | undefined;
  readonly issue: string;
  readonly severity: Severity;
  readonly text: string;
}

/** Servers that are known to lose data, or can't do what is needed. `findings` names each of them. */
export class UnsafeServerError extends ZooKeeperError {
  override readonly name = "UnsafeServerError";
  constructor(
    message: string,
    readonly findings: readonly Finding[],
    outcome: Outcome = "terminal",
  ) {
    super(message, outcome);
  }
}

const PLACES = 3;
const FACTOR = 10_000;

/** 3.9.6 as a number that compares. */
function ordinal(version: string): number {
  const parts = version.split(".").slice(0, PLACES).map(Number);
  return parts.reduce((sum, part) => sum * FACTOR + part, 0);
}

/** What is known against a version, such as `3.9.3`. */
export function faultsOf(version: string): KnownFault[] {
  const at = ordinal(version);
  return KNOWN_FAULTS.filter(({ ranges }) =>
    ranges.some(([first, last]) => ordinal(first) <= at && at <= ordinal(last)),
  );
}

/**
 * Asks every server of the connect string for its version, and holds it against what is known. Resolves with the
 * warnings, and rejects with `UnsafeServerError` for what must not be used, except for issues in `allow`.
 *
 * The protocol has no version in it, so this asks by the four-letter word `srvr`, which servers allow unless told
 * otherwise. A server that does not answer is a warning; the one in use is then at least tried for whoAmI (3.7).
 */
export async function guardVersions(
  client: ZooKeeper,
  options: { readonly allow?: readonly string[]; readonly timeoutMs?: number } = {},
): Promise<Finding[]> {
  const { allow = [], timeoutMs = 2_000 } = options;
  const findings: Finding[] = [];
  for (const { server, version } of await client.serverVersions(timeoutMs)) {
    const found = version === undefined ? [await unknown(client, server)] : faultsOf(version);
    findings.push(...found.map(({ issue, severity, text }) => ({ server, version, issue, severity, text })));
  }
  const refused = findings.filter(({ severity, issue }) => severity === "refuse" && !allow.includes(issue));
  if (refused.length > 0) throw new UnsafeServerError(describe(refused), refused);
  return findings;
}

async function unknown(
  client: ZooKeeper,
  server: string,
): Promise<Pick<KnownFault, "issue" | "severity" | "text">> {
  const isInUse = client.server === server;
  const isOld =
    isInUse &&
    (await client.whoAmI().then(
      () => false,
      () => true,
    ));
  const text = isOld
    ? "the server does not tell its version, and is older than 3.7"
    : `the server does not tell its version${isInUse ? ", which is 3.7 or newer" : ""}; allow srvr in 4lw.commands.whitelist`;
  return { issue: "unknown version", severity: "warn", text };
}

function describe(findings: readonly Finding[]): string {
  const lines = findings.map(
    ({ server, version, issue, text }) => `${server} runs ${version}: ${issue}, ${text}.`,
  );
  return `ZooKeeper servers that must not be used: ${lines.join(" ")}`;
}
