import { readSettings, SettingsError, settingsOf } from "../lib/settings";

const GOOD = { ZOOKEEPER_CONNECT: "127.0.0.1:2181" };

function problem(environment: Record<string, string | undefined>): string {
  try {
    readSettings(environment);
  } catch (error) {
    expect(error).toBeInstanceOf(SettingsError);
    return (error as Error).message;
  }
  throw new Error("the settings were taken");
}

test("the defaults, where only the ensemble is named", () => {
  expect(readSettings({ ...GOOD, PATH: "/bin", UNRELATED: undefined })).toEqual({
    connectString: "127.0.0.1:2181",
    root: "/beamkeeper",
    secret: undefined,
    output: "output",
    blobStore: "output/.blobs",
    sessionTimeoutMs: 15_000,
    connectTimeoutMs: 15_000,
    commitSizeBytes: 512 * 1024,
    segmentSizeBytes: 128 * 1024,
    bundleUnits: 10_000,
    maxInFlight: 16,
    maxBacklog: 256,
    writesPerSecond: 1_000_000,
    ensembles: {},
    idleIntervalMs: 1_000,
    lingerMs: 0,
    deadlineMarginMs: 5_000,
    relayRunMs: 880_000,
    relayMarginMs: 5_000,
    relayStandsBy: true,
    bundleFunction: undefined,
    bundleVersion: undefined,
    driverFunction: undefined,
    stage: "",
  });
});

test("other ensembles are named by letters and digits, with a connect string and the name of a secret", () => {
  const text = `{"kafka":{"connect":"k1:2181/kafka"},"b-2":{"connect":"b","secret":"/b"}}`;
  const settings = readSettings({ ...GOOD, BEAMKEEPER_ENSEMBLES: text });
  expect(settings.ensembles).toEqual({
    kafka: { connectString: "k1:2181/kafka", secret: undefined },
    "b-2": { connectString: "b", secret: "/b" },
  });
  const other = settingsOf(settings, "b-2");
  expect(other).toEqual({ ...settings, connectString: "b", secret: "/b" });
  for (const wrong of [
    "{",
    "[]",
    `{"a b":{"connect":"x"}}`,
    `{"a":{}}`,
    `{"a":{"connect":"x","password":"y"}}`,
  ])
    expect(() => readSettings({ ...GOOD, BEAMKEEPER_ENSEMBLES: wrong })).toThrow(
      /BEAMKEEPER_ENSEMBLES must be JSON/,
    );
  expect(() => settingsOf(settings, "toString")).toThrow(
    /reads from the ensemble "toString".*only kafka, b-2/,
  );
});

test("every setting is read from its variable", () => {
  const settings = readSettings({
    ...GOOD,
    BEAMKEEPER_ROOT: "/a/b",
    ZOOKEEPER_SECRET: "/prod/zookeeper",
    BEAMKEEPER_OUTPUT: "out",
    BEAMKEEPER_BLOB_STORE: "s3://bucket/blobs",
    BEAMKEEPER_SESSION_TIMEOUT_MS: "2000",
    BEAMKEEPER_CONNECT_TIMEOUT_MS: "300",
    BEAMKEEPER_COMMIT_SIZE_BYTES: "100000",
    BEAMKEEPER_SEGMENT_SIZE_BYTES: "50000",
    BEAMKEEPER_BUNDLE_UNITS: "7",
    BEAMKEEPER_MAX_IN_FLIGHT: "2",
    BEAMKEEPER_MAX_BACKLOG: "9",
    BEAMKEEPER_WRITES_PER_SECOND: "45",
    BEAMKEEPER_IDLE_INTERVAL_MS: "20",
    BEAMKEEPER_LINGER_MS: "30",
    BEAMKEEPER_DEADLINE_MARGIN_MS: "400",
    BEAMKEEPER_RELAY_RUN_MS: "5000",
    BEAMKEEPER_RELAY_MARGIN_MS: "600",
    BEAMKEEPER_RELAY_STANDBY: "false",
    BEAMKEEPER_BUNDLE_FUNCTION: "bundle",
    BEAMKEEPER_BUNDLE_VERSION: "3",
    BEAMKEEPER_DRIVER_FUNCTION: "driver",
    BEAMKEEPER_STAGE: "dev",
  });
  expect(Object.values(settings)).toEqual([
    ...[
      "127.0.0.1:2181",
      "/a/b",
      "/prod/zookeeper",
      {},
      "out",
      "s3://bucket/blobs",
      2_000,
      300,
      100_000,
      50_000,
      7,
      2,
      9,
      45,
      20,
      30,
      400,
      5_000,
      600,
      false,
      "bundle",
      "3",
      "driver",
      "dev",
    ],
  ]);
});

test("all problems are told at once, by the variables' names", () => {
  const message = problem({
    BEAMKEEPER_ROOT: "root",
    BEAMKEEPER_MAX_IN_FLIGHT: "0",
    BEAMKEEPER_BUNDLE_UNITS: "many",
  });
  expect(message).toMatch(/ZOOKEEPER_CONNECT is missing: set it to host:port/);
  expect(message).toMatch(/BEAMKEEPER_ROOT must be an absolute znode path/);
  expect(message).toMatch(/BEAMKEEPER_MAX_IN_FLIGHT must be at least 1/);
  expect(message).toMatch(/BEAMKEEPER_BUNDLE_UNITS must be a whole number/);
});

test("values are not repeated, since they may hold what is secret", () => {
  expect(problem({ ...GOOD, BEAMKEEPER_ROOT: "hunter2", BEAMKEEPER_MAX_IN_FLIGHT: "hunter3" })).not.toMatch(
    /hunter/,
  );
});

test.each([
  ["ZOOKEEPER_CONNECT", ""],
  ["BEAMKEEPER_ROOT", "/"],
  ["BEAMKEEPER_ROOT", "/a/"],
  ["BEAMKEEPER_ROOT", "/a//b"],
  ["BEAMKEEPER_SESSION_TIMEOUT_MS", ""],
  ["BEAMKEEPER_SESSION_TIMEOUT_MS", "1.5"],
  ["BEAMKEEPER_SESSION_TIMEOUT_MS", "1e99"],
  ["BEAMKEEPER_COMMIT_SIZE_BYTES", "1000"],
])("%s=%p is refused", (name, value) => {
  expect(problem({ ...GOOD, [name]: value })).toContain(name);
});

test("a segment has to fit into a commit with its effects", () => {
  const message = problem({
    ...GOOD,
    BEAMKEEPER_COMMIT_SIZE_BYTES: "65536",
    BEAMKEEPER_SEGMENT_SIZE_BYTES: "40000",
  });
  expect(message).toMatch(
    /BEAMKEEPER_SEGMENT_SIZE_BYTES must be at most half of BEAMKEEPER_COMMIT_SIZE_BYTES/,
  );
});
