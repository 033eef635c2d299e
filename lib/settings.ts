import * as z from "zod/mini";

const integer = (name: string, min: number, max: number, fallback: number) =>
  z._default(
    z.coerce
      .number({ error: `${name} must be a whole number` })
      .check(
        z.multipleOf(1, `${name} must be a whole number`),
        z.gte(min, `${name} must be at least ${min}`),
        z.lte(max, `${name} must be at most ${max}`),
      ),
    fallback,
  );

const text = (name: string) => z.string().check(z.minLength(1, `${name} is empty: set it, or leave it out`));

const MIB = 1024 * 1024;

/** Every setting, by the environment variable that sets it. This is the only place that reads the environment. */
const schema = z.object({
  ZOOKEEPER_CONNECT: z
    .string({
      error: "ZOOKEEPER_CONNECT is missing: set it to host:port[,host:port...][/chroot] of the ensemble",
    })
    .check(
      z.minLength(
        1,
        "ZOOKEEPER_CONNECT is empty: set it to host:port[,host:port...][/chroot] of the ensemble",
      ),
    ),
  BEAMKEEPER_ROOT: z._default(
    z
      .string()
      .check(
        z.regex(/^(\/[^/]+)+$/, "BEAMKEEPER_ROOT must be an absolute znode path, for example /beamkeeper"),
      ),
    "/beamkeeper",
  ),
  /** Where the credentials for ZooKeeper are: the ARN of a secret, or the name or ARN of a parameter of SSM. */
  ZOOKEEPER_SECRET: z.optional(z.string()),
  /** Other ensembles that sources are on, by name: JSON of the form {"name":{"connect":"host:port...","secret":"..."}}. */
  BEAMKEEPER_ENSEMBLES: z.optional(z.string()),
  /** Where text output goes: a folder, or s3://bucket/prefix. */
  BEAMKEEPER_OUTPUT: z._default(text("BEAMKEEPER_OUTPUT"), "output"),
  /** Where records too large for a znode go: a folder, or s3://bucket/prefix. Default: ".blobs" in the output. */
  BEAMKEEPER_BLOB_STORE: z.optional(text("BEAMKEEPER_BLOB_STORE")),
  /** Session time-out in ms that is asked of the ensemble. */
  BEAMKEEPER_SESSION_TIMEOUT_MS: integer("BEAMKEEPER_SESSION_TIMEOUT_MS", 1_000, 600_000, 15_000),
  /** How long to look for a server, in ms. */
  BEAMKEEPER_CONNECT_TIMEOUT_MS: integer("BEAMKEEPER_CONNECT_TIMEOUT_MS", 100, 600_000, 15_000),
  /** Bytes of one commit's multi; keep it below jute.maxbuffer of every server. */
  BEAMKEEPER_COMMIT_SIZE_BYTES: integer("BEAMKEEPER_COMMIT_SIZE_BYTES", 65_536, 64 * MIB, 512 * 1024),
  /** Bytes of one segment in an inbox. */
  BEAMKEEPER_SEGMENT_SIZE_BYTES: integer("BEAMKEEPER_SEGMENT_SIZE_BYTES", 4_096, 16 * MIB, 128 * 1024),
  /** Elements and timers in one bundle. */
  BEAMKEEPER_BUNDLE_UNITS: integer("BEAMKEEPER_BUNDLE_UNITS", 1, 10_000_000, 10_000),
  /** Invocations of the bundle function under way at once, over all shards of a pipeline. */
  BEAMKEEPER_MAX_IN_FLIGHT: integer("BEAMKEEPER_MAX_IN_FLIGHT", 1, 1_000, 16),
  /** Segments in an inbox above which the stages and sources that feed it wait. */
  BEAMKEEPER_MAX_BACKLOG: integer("BEAMKEEPER_MAX_BACKLOG", 1, 100_000, 256),
  /** Writes to ZooKeeper a second that one pipeline may make, where its definition says nothing ; the default is no bound. */
  BEAMKEEPER_WRITES_PER_SECOND: integer("BEAMKEEPER_WRITES_PER_SECOND", 4, 1_000_000, 1_000_000),
  /** How often an idle source publishes its watermark, in ms. */
  BEAMKEEPER_IDLE_INTERVAL_MS: integer("BEAMKEEPER_IDLE_INTERVAL_MS", 10, 600_000, 1_000),
  /** The least time between two commits of a source while changes come, in ms: fewer, fuller commits, and later ones. */
  BEAMKEEPER_LINGER_MS: integer("BEAMKEEPER_LINGER_MS", 0, 60_000, 0),
  /** How long before the end of an invocation nothing new is begun, in ms. */
  BEAMKEEPER_DEADLINE_MARGIN_MS: integer("BEAMKEEPER_DEADLINE_MARGIN_MS", 100, 600_000, 5_000),
  /** How long one invocation of the relay works, in ms; never longer than its remaining time less the margin. */
  BEAMKEEPER_RELAY_RUN_MS: integer("BEAMKEEPER_RELAY_RUN_MS", 1_000, 900_000, 880_000),
  /** How long before the end of its invocation the relay hands over, in ms. */
  BEAMKEEPER_RELAY_MARGIN_MS: integer("BEAMKEEPER_RELAY_MARGIN_MS", 100, 600_000, 5_000),
  /** Whether relays stand for election: one is active, the others stand by and take over. */
  BEAMKEEPER_RELAY_STANDBY: z._default(
    z.enum(["true", "false"], { error: "BEAMKEEPER_RELAY_STANDBY must be true or false" }),
    "true",
  ),
  /** The name or ARN of the bundle function, which the relay invokes. */
  BEAMKEEPER_BUNDLE_FUNCTION: z.optional(text("BEAMKEEPER_BUNDLE_FUNCTION")),
  /** The name or ARN of the driver function, which the events function starts. */
  BEAMKEEPER_DRIVER_FUNCTION: z.optional(text("BEAMKEEPER_DRIVER_FUNCTION")),
  /** What stands for {stage} in the names of queues, streams and buckets. */
  BEAMKEEPER_STAGE: z._default(z.string(), ""),
  /** The version of the bundle function that belongs to this deployment; without it, the newest code is invoked. */
  BEAMKEEPER_BUNDLE_VERSION: z.optional(
    z
      .string()
      .check(z.regex(/^[1-9]\d*$/, "BEAMKEEPER_BUNDLE_VERSION must be the number of a published version")),
  ),
});

const ensembles = z.record(
  z.string().check(z.regex(/^[A-Za-z0-9][A-Za-z0-9_-]*$/)),
  z.strictObject({ connect: z.string().check(z.minLength(1)), secret: z.optional(z.string()) }),
);

/** An ensemble beside the one that holds the root. */
export interface OtherEnsemble {
  readonly connectString: string;
  /** The name of the secret with its credentials; undefined where it asks for none. */
  readonly secret: string | undefined;
}

export interface Settings {
  readonly connectString: string;
  readonly root: string;
  /** The name of the secret with ZooKeeper's credentials; undefined where the ensemble asks for none. */
  readonly secret: string | undefined;
  /** The ensembles that sources name. */
  readonly ensembles: Readonly<Record<string, OtherEnsemble>>;
  /** A folder, or s3://bucket/prefix. */
  readonly output: string;
  /** A folder, or s3://bucket/prefix. */
  readonly blobStore: string;
  readonly sessionTimeoutMs: number;
  readonly connectTimeoutMs: number;
  readonly commitSizeBytes: number;
  readonly segmentSizeBytes: number;
  readonly bundleUnits: number;
  readonly maxInFlight: number;
  readonly maxBacklog: number;
  readonly writesPerSecond: number;
  readonly idleIntervalMs: number;
  readonly lingerMs: number;
  readonly deadlineMarginMs: number;
  readonly relayRunMs: number;
  readonly relayMarginMs: number;
  readonly relayStandsBy: boolean;
  readonly bundleFunction: string | undefined;
  readonly bundleVersion: string | undefined;
  readonly driverFunction: string | undefined;
  readonly stage: string;
}

/** The settings cannot be used; the message lists every problem. Terminal. */
export class SettingsError extends Error {
  override readonly name = "SettingsError";
  readonly outcome = "terminal";
}

/** Validates the environment; throws {@link SettingsError} with all problems at once. Values are not repeated in it. */
export function readSettings(environment: Readonly<Record<string, string | undefined>>): Settings {
  const parsed = schema.safeParse(environment);
  if (!parsed.success) {
    const problems = parsed.error.issues.map((issue) => `  - ${issue.message}`);
    throw new SettingsError(`the settings cannot be used:\n${problems.join("\n")}`);
  }
  const { data } = parsed;
  if (data.BEAMKEEPER_SEGMENT_SIZE_BYTES * 2 > data.BEAMKEEPER_COMMIT_SIZE_BYTES) {
    throw new SettingsError(
      "BEAMKEEPER_SEGMENT_SIZE_BYTES must be at most half of BEAMKEEPER_COMMIT_SIZE_BYTES, so that a commit holds a segment and its effects",
    );
  }
  return {
    connectString: data.ZOOKEEPER_CONNECT,
    root: data.BEAMKEEPER_ROOT,
    secret: data.ZOOKEEPER_SECRET || undefined,
    ensembles: readEnsembles(data.BEAMKEEPER_ENSEMBLES),
    output: data.BEAMKEEPER_OUTPUT,
    blobStore: data.BEAMKEEPER_BLOB_STORE ?? `${data.BEAMKEEPER_OUTPUT.replace(/\/$/, "")}/.blobs`,
    sessionTimeoutMs: data.BEAMKEEPER_SESSION_TIMEOUT_MS,
    connectTimeoutMs: data.BEAMKEEPER_CONNECT_TIMEOUT_MS,
    commitSizeBytes: data.BEAMKEEPER_COMMIT_SIZE_BYTES,
    segmentSizeBytes: data.BEAMKEEPER_SEGMENT_SIZE_BYTES,
    bundleUnits: data.BEAMKEEPER_BUNDLE_UNITS,
    maxInFlight: data.BEAMKEEPER_MAX_IN_FLIGHT,
    maxBacklog: data.BEAMKEEPER_MAX_BACKLOG,
    writesPerSecond: data.BEAMKEEPER_WRITES_PER_SECOND,
    idleIntervalMs: data.BEAMKEEPER_IDLE_INTERVAL_MS,
    lingerMs: data.BEAMKEEPER_LINGER_MS,
    deadlineMarginMs: data.BEAMKEEPER_DEADLINE_MARGIN_MS,
    relayRunMs: data.BEAMKEEPER_RELAY_RUN_MS,
    relayMarginMs: data.BEAMKEEPER_RELAY_MARGIN_MS,
    relayStandsBy: data.BEAMKEEPER_RELAY_STANDBY === "true",
    bundleFunction: data.BEAMKEEPER_BUNDLE_FUNCTION,
    bundleVersion: data.BEAMKEEPER_BUNDLE_VERSION,
    driverFunction: data.BEAMKEEPER_DRIVER_FUNCTION,
    stage: data.BEAMKEEPER_STAGE,
  };
}

function readEnsembles(text: string | undefined): Settings["ensembles"] {
  if (!text) return {};
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    json = undefined;
  }
  const parsed = ensembles.safeParse(json);
  if (!parsed.success)
    throw new SettingsError(
      'BEAMKEEPER_ENSEMBLES must be JSON of the form {"name":{"connect":"host:port[,host:port...][/chroot]","secret":"..."}}, ' +
        "where secret may be left out and a name has letters, digits, - and _",
    );
  return Object.fromEntries(
    Object.entries(parsed.data).map(([name, { connect, secret }]) => [
      name,
      { connectString: connect, secret },
    ]),
  );
}

/** The settings for an ensemble that a source names; throws {@link SettingsError} where there is none of that name. */
export function settingsOf(settings: Settings, ensemble: string): Settings {
  const other = settings.ensembles[ensemble];
  if (other && Object.hasOwn(settings.ensembles, ensemble)) return { ...settings, ...other };
  const known = Object.keys(settings.ensembles);
  throw new SettingsError(
    `a source reads from the ensemble "${ensemble}", and BEAMKEEPER_ENSEMBLES ${known.length > 0 ? `has only ${known.join(", ")}` : "is not set"}. ` +
      `Add it as {"${ensemble}":{"connect":"host:port..."}}`,
  );
}
