/** Servers that speak TLS and plain on one port, ask clients for certificates, and know a SASL user. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TlsOptions } from "../../lib/zookeeper";
import type { ZooKeeperServerOptions } from "./zookeeper-server";

const SERVER_NAME = "zookeeper.test";

/** Certificates and users in a folder of their own; `remove` takes it away. */
export class Credentials {
  /** With what the formats on the way quote, and beyond ASCII. */
  readonly sasl = { username: "bob", password: 'sä"\\,= word' };
  readonly #directory = mkdtempSync(join(tmpdir(), "beamkeeper-security-"));

  constructor() {
    const isAuthority = ["basicConstraints=critical,CA:TRUE"];
    const isNot = "basicConstraints=critical,CA:FALSE";
    this.#certificate("authority", "authority", []);
    this.#certificate("other-authority", "other", isAuthority.slice(1));
    this.#certificate("server", "server", [isNot, `subjectAltName=DNS:${SERVER_NAME}`], "authority");
    this.#certificate("client", "client-of-tests", [isNot], "authority");
    this.#certificate("stranger", "stranger", []);
    const password = this.sasl.password.replace(/["\\]/g, "\\$&");
    const users = `Server { org.apache.zookeeper.server.auth.DigestLoginModule required user_bob="${password}"; };`;
    writeFileSync(this.#file("jaas.conf"), users);
  }

  /** What a client of these servers says. */
  get tls(): TlsOptions {
    return {
      ca: this.pem("authority.crt"),
      cert: this.pem("client.crt"),
      key: this.pem("client.key"),
      servername: SERVER_NAME,
    };
  }

  pem(file: string): string {
    return readFileSync(this.#file(file), "utf8");
  }

  serverOptions(): ZooKeeperServerOptions {
    return {
      config: {
        serverCnxnFactory: "org.apache.zookeeper.server.NettyServerCnxnFactory",
        "client.portUnification": "true",
        "ssl.keyStore.location": this.#file("server.pem"),
        "ssl.keyStore.type": "PEM",
        "ssl.trustStore.location": this.#file("authority.crt"),
        "ssl.trustStore.type": "PEM",
        "authProvider.x509": "org.apache.zookeeper.server.auth.X509AuthenticationProvider",
        "authProvider.sasl": "org.apache.zookeeper.server.auth.SASLAuthenticationProvider",
      },
      properties: {
        "java.security.auth.login.config": this.#file("jaas.conf"),
        "file.encoding": "UTF-8",
        // In FIPS mode, its default, a server refuses DIGEST-MD5.
        "zookeeper.fips-mode": "false",
      },
    };
  }

  remove(): void {
    rmSync(this.#directory, { recursive: true, force: true });
  }

  #file(name: string): string {
    return join(this.#directory, name);
  }

  /** A key with a certificate: signed by an authority, or by itself. */
  #certificate(name: string, subject: string, extensions: readonly string[], issuer?: string): void {
    const signing = issuer ? ["-CA", this.#file(`${issuer}.crt`), "-CAkey", this.#file(`${issuer}.key`)] : [];
    execFileSync(
      "openssl",
      [
        ...["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"],
        ...["-subj", `/CN=${subject}`, "-keyout", this.#file(`${name}.key`)],
        ...["-out", this.#file(`${name}.crt`), ...signing],
        ...extensions.flatMap((extension) => ["-addext", extension]),
      ],
      { stdio: ["ignore", "ignore", "pipe"] },
    );
    writeFileSync(this.#file(`${name}.pem`), this.pem(`${name}.key`) + this.pem(`${name}.crt`));
  }
}
