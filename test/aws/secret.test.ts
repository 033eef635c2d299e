import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { ensembleConnector } from "../../lib/aws/ensemble";
import { readCredentials, SecretError } from "../../lib/aws/secret";
import { readSettings } from "../../lib/settings";
import { AuthFailedError } from "../../lib/zookeeper";
import { temporaryFolder } from "../support/deployment";
import { type LocalZooKeeper, startZooKeeper } from "../support/zookeeper-server";

const PASSWORD = "a-word-that-nobody-logs";
const read = (secret: unknown) => readCredentials("/zookeeper", async () => JSON.stringify(secret));

test("a secret holds what the client takes", async () => {
  const authentication = [{ scheme: "digest", auth: `user:${PASSWORD}` }];
  const sasl = { username: "user", password: PASSWORD };
  expect(await read({ authentication })).toEqual({ authentication });
  expect(await read({ sasl, tls: true })).toEqual({ sasl, tls: true });
  expect(await read({ tls: { ca: "ca", cert: "cert", key: "key" } })).toEqual({
    tls: { ca: "ca", cert: "cert", key: "key" },
  });
  expect(await read({})).toEqual({});
});

test.each([
  ["no JSON", `user:${PASSWORD}`],
  ["a field that nothing reads", JSON.stringify({ password: PASSWORD })],
  ["half of a user", JSON.stringify({ sasl: { password: PASSWORD } })],
  ["nothing", undefined],
])("a secret that is %s is refused by its name, and never shown", async (_what, secret) => {
  const refused = readCredentials("/zookeeper", async () => secret);
  await expect(refused).rejects.toThrow(SecretError);
  await expect(refused).rejects.toThrow(
    /the secret \/zookeeper \(ZOOKEEPER_SECRET\) must be JSON of the form/,
  );
  await expect(refused).rejects.not.toThrow(PASSWORD);
});

test("a secret that cannot be read says why and what to look at", async () => {
  const denied = readCredentials("/zookeeper", () => Promise.reject(new Error("AccessDenied")));
  await expect(denied).rejects.toThrow(/cannot be read: Error: AccessDenied. Does it exist in this region/);
});

describe("at an ensemble that knows one user", () => {
  let folder: ReturnType<typeof temporaryFolder>;
  let ensemble: LocalZooKeeper;

  beforeAll(async () => {
    folder = temporaryFolder();
    const users = join(folder.path, "jaas.conf");
    const login = "org.apache.zookeeper.server.auth.DigestLoginModule";
    writeFileSync(users, `Server { ${login} required user_bob="${PASSWORD}"; };`);
    ensemble = await startZooKeeper({
      config: { "authProvider.sasl": "org.apache.zookeeper.server.auth.SASLAuthenticationProvider" },
      // In FIPS mode, its default, a server refuses DIGEST-MD5.
      properties: { "java.security.auth.login.config": users, "zookeeper.fips-mode": "false" },
    });
  });

  afterAll(async () => {
    await ensemble?.stop();
    folder?.remove();
  });

  test("the secret is read once, and again where it could not be read or the ensemble refused it", async () => {
    const settings = readSettings({
      ZOOKEEPER_CONNECT: ensemble.connectString,
      ZOOKEEPER_SECRET: "/zookeeper",
    });
    const secretOf = (password: string) => JSON.stringify({ sasl: { username: "bob", password } });
    const answers: (() => Promise<string>)[] = [
      () => Promise.reject(new Error("throttled")),
      async () => secretOf("of-yesterday"),
      async () => secretOf(PASSWORD),
    ];
    let reads = 0;
    const connect = ensembleConnector(settings, () => answers[reads++]!());
    await expect(connect()).rejects.toThrow("throttled");
    await expect(connect()).rejects.toThrow(AuthFailedError);
    for (let round = 0; round < 2; round++) {
      const client = await connect();
      expect(await client.exists("/")).not.toBeNull();
      await client.close();
    }
    expect(reads).toBe(3);
  });
});
