import { inspect } from "node:util";
import { connect, type ZooKeeper, type ZooKeeperOptions } from "../../lib/zookeeper";
import { DigestMd5 } from "../../lib/zookeeper/sasl";
import { Credentials } from "../support/secure-server";
import { TcpProxy } from "../support/tcp-proxy";
import { bytes, rejection } from "../support/zookeeper-fixture";
import { type LocalZooKeeper, startZooKeeper } from "../support/zookeeper-server";

let credentials: Credentials;
let server: LocalZooKeeper;
let client: ZooKeeper | undefined;

beforeAll(async () => {
  credentials = new Credentials();
  server = await startZooKeeper(credentials.serverOptions());
});

afterAll(async () => {
  await server?.stop();
  credentials?.remove();
});

afterEach(async () => {
  await client?.close();
  client = undefined;
});

const tls = () => credentials.tls;
const pem = (file: string) => credentials.pem(file);

async function open(options: Partial<ZooKeeperOptions>): Promise<ZooKeeper> {
  client = await connect({ connectString: server.connectString, connectTimeoutMs: 5_000, ...options });
  return client;
}

describe("TLS", () => {
  test("a client with a certificate is known by it, and speaks as over plain TCP", async () => {
    const secure = await open({ tls: tls() });
    expect(await secure.whoAmI()).toContainEqual({ scheme: "x509", user: "CN=client-of-tests" });
    const large = Buffer.alloc(900_000, "x");
    await secure.create("/large", large);
    const reads = await Promise.all(Array.from({ length: 20 }, () => secure.getData("/large")));
    for (const { data } of reads) expect(data.equals(large)).toBe(true);
    const paths = Array.from({ length: 2_000 }, (_, index) => `/tls-${index}`);
    const created = await Promise.all(paths.map((path) => secure.create(path, bytes(path))));
    expect(created.map(({ path }) => path)).toEqual(paths);
  });

  test("a connection that breaks is followed by another, with the same session and its watches", async () => {
    const proxy = await TcpProxy.start(server.connectString);
    try {
      const secure = await open({ tls: tls(), connectString: proxy.address });
      const { stat } = await secure.create("/e", bytes(""), { mode: "ephemeral" });
      const watch = await secure.watch("/e", "persistent");
      proxy.cut();
      expect((await watch.next()).value).toEqual({ type: "gap" });
      expect(await secure.exists("/e")).toEqual(stat);
    } finally {
      await proxy.stop();
    }
  });

  test.each<[string, () => ZooKeeperOptions["tls"], RegExp]>([
    [
      "an authority that is not trusted",
      () => ({ ...tls(), ca: pem("other-authority.crt") }),
      /UNABLE_TO_VERIFY|SELF_SIGNED/,
    ],
    ["the system's authorities alone", () => true, /UNABLE_TO_VERIFY|SELF_SIGNED/],
    ["another server's name", () => ({ ...tls(), servername: "other.test" }), /ERR_TLS_CERT_ALTNAME_INVALID/],
    [
      "no client certificate",
      () => ({ ca: tls().ca, servername: tls().servername }),
      /refused the handshake|ECONNRESET|SSL|closed/,
    ],
    [
      "a stranger's certificate",
      () => ({ ...tls(), cert: pem("stranger.crt"), key: pem("stranger.key") }),
      /refused the handshake|ECONNRESET|SSL|closed/,
    ],
  ])("%s gives no connection, and the reason", async (_what, options, reason) => {
    const error = await rejection(open({ tls: options(), connectTimeoutMs: 500 }));
    expect(error).toMatchObject({ name: "NotConnectedError" });
    expect(error.message).toMatch(reason);
    expect(error.message).not.toContain("PRIVATE KEY");
  });

  test("a key that can't be read is refused before anything is tried, and not shown", async () => {
    const key = "-----BEGIN PRIVATE KEY-----\nhidden-key\n-----END PRIVATE KEY-----\n";
    const error = await rejection(open({ tls: { ...tls(), key } }));
    expect(error).toMatchObject({ name: "InvalidArgumentError", outcome: "terminal" });
    expect(inspect(error, { depth: 9 })).not.toContain("hidden-key");
  });

  test("a server that speaks no TLS is named", async () => {
    const plain = await startZooKeeper();
    try {
      const connectString = plain.connectString;
      const error = await rejection(open({ connectString, tls: tls(), connectTimeoutMs: 500 }));
      expect(error).toMatchObject({ name: "NotConnectedError" });
      expect(error.message).toContain(connectString);
    } finally {
      await plain.stop();
    }
  });
});

describe("SASL", () => {
  // The example of RFC 2831, section 4, with ZooKeeper's digest-uri instead of imap/elwood.innosoft.com.
  test("answers a challenge with everything that the RFC asks for, and checks the server's proof", () => {
    const digest = new DigestMd5({ username: "chris", password: "secret" }, "OA6MHXh6VqTrRk");
    expect(digest.initial).toHaveLength(0);
    const challenge =
      'realm="zk-sasl-md5",nonce="OA6MG9tEQGm2hh",qop="auth",algorithm=md5-sess,charset=utf-8';
    const response = digest.respond(bytes(challenge)).toString();
    expect(response).toMatch(
      /^charset=utf-8,username="chris",realm="zk-sasl-md5",nonce="OA6MG9tEQGm2hh",nc=00000001,cnonce="OA6MHXh6VqTrRk",digest-uri="zookeeper\/zk-sasl-md5",response=[0-9a-f]{32},qop=auth$/,
    );
    expect(() => digest.verify(bytes(`rspauth=${"0".repeat(32)}`))).toThrow("impostor");
    expect(() => digest.respond(bytes("`krb5 bytes"))).toThrow("Kerberos");
  });

  test.each(["plain", "TLS"])(
    "a user proves himself over %s, on later connections as well",
    async (transport) => {
      const proxy = await TcpProxy.start(server.connectString);
      try {
        const { sasl } = credentials;
        const options = { sasl, connectString: proxy.address, tls: transport === "TLS" && tls() };
        const bob = await open(options);
        expect(await bob.whoAmI()).toContainEqual({ scheme: "sasl", user: "bob" });
        const path = `/of-bob-${transport}`;
        await bob.create(path, bytes("x"), { acl: [{ perms: 31, scheme: "sasl", id: "bob" }] });
        proxy.cut();
        await rejection(bob.sync("/"));
        expect((await bob.getData(path)).data.toString()).toBe("x");
        const nobody = await connect({ connectString: server.connectString });
        await expect(nobody.getData(path)).rejects.toMatchObject({ name: "NoAuthError" });
        await nobody.close();
      } finally {
        await proxy.stop();
      }
    },
  );

  test.each([
    { username: "bob", password: "wrong-word" },
    { username: "nobody", password: "wrong-word" },
  ])("$username with another password is refused, once and for all", async (sasl) => {
    const error = await rejection(open({ sasl }));
    expect(error).toMatchObject({ name: "AuthFailedError", outcome: "terminal" });
    expect(inspect(error)).not.toContain("wrong-word");
  });

  test.each([
    ["GSSAPI", "Kerberos"],
    ["kerberos", "Kerberos"],
    ["PLAIN", "the mechanism PLAIN is unknown"],
  ])("%s is refused by its name", async (mechanism, text) => {
    const sasl = { mechanism, username: "bob", password: "x" } as unknown as ZooKeeperOptions["sasl"];
    const error = await rejection(open({ sasl }));
    expect(error).toMatchObject({ name: "InvalidArgumentError", message: expect.stringContaining(text) });
  });
});

test("a client shows no secret when it is inspected", async () => {
  const authentication = [{ scheme: "digest", auth: "user:hidden-word" }];
  const all = await open({ tls: tls(), sasl: credentials.sasl, authentication });
  const text = inspect(all, { depth: 20, showHidden: true });
  for (const secret of ["hidden-word", credentials.sasl.password, "PRIVATE KEY"])
    expect(text).not.toContain(secret);
});
