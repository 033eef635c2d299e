/** SASL DIGEST-MD5 (RFC 2831), as ZooKeeper's servers speak it: qop "auth", no security layer. */
import { AuthFailedError, InvalidArgumentError } from "./errors";

/** A user of the servers' JAAS file. Kerberos is not spoken. */
export interface Sasl {
  /** Default: DIGEST-MD5, the only one. */
  readonly mechanism?: "DIGEST-MD5";
  readonly username: string;
  readonly password: string;
}

/** What the servers call themselves. */
const DIGEST_URI = "zookeeper/zk-sasl-md5";
const FIRST_USE = "00000001";
const CNONCE_BYTES = 16;
const KERBEROS = new Set(["GSSAPI", "KERBEROS", "KRB5"]);

/** Rejects mechanisms that are not spoken, Kerberos by its name. */
export function checkSasl(sasl: Sasl): void {
  const mechanism = String(sasl.mechanism ?? "DIGEST-MD5").toUpperCase();
  if (mechanism === "DIGEST-MD5" && sasl.username && sasl.password !== undefined) return;
  const reason = KERBEROS.has(mechanism)
    ? "Kerberos (GSSAPI) is not supported: use DIGEST-MD5, or a client certificate over TLS"
    : mechanism === "DIGEST-MD5"
      ? "DIGEST-MD5 needs a username and a password"
      : `the mechanism ${mechanism} is unknown: use DIGEST-MD5`;
  throw new InvalidArgumentError(`sasl: ${reason}.`, "terminal");
}

/** The directives of a challenge: `name=value` or `name="quoted value"`, separated by commas. */
function parseChallenge(challenge: Buffer): Map<string, string> {
  const directives = new Map<string, string>();
  for (const match of challenge.toString("utf8").matchAll(/([a-z-]+)=(?:"((?:[^"\\]|\\.)*)"|([^,]*))/g)) {
    directives.set(match[1]!, match[2]?.replace(/\\(.)/g, "$1") ?? match[3]!.trim());
  }
  return directives;
}

function md5(...parts: readonly (string | Buffer)[]): Buffer {
  const hash = process.getBuiltinModule("node:crypto").createHash("md5");
  for (const part of parts) hash.update(part);
  return hash.digest();
}

/** RFC 2831, 2.1.2.1: hashed as ISO 8859-1 where that is enough, else as UTF-8. */
function narrowed(text: string): Buffer {
  const isLatin1 = [...text].every((character) => character.codePointAt(0)! <= 0xff);
  return Buffer.from(text, isLatin1 ? "latin1" : "utf8");
}

function randomNonce(): string {
  return process.getBuiltinModule("node:crypto").randomBytes(CNONCE_BYTES).toString("base64");
}

function quoted(value: string): string {
  return `"${value.replace(/["\\]/g, "\\$&")}"`;
}

/**
 * One authentication: first `initial`, which is empty and not null (null crashed a server's handler), then
 * `respond` to the server's challenge, and `verify` that the server knows the password, too.
 */
export class DigestMd5 {
  readonly initial = Buffer.alloc(0);
  #expected: string | undefined;

  constructor(
    private readonly sasl: Sasl,
    private readonly cnonce: string = randomNonce(),
  ) {}

  respond(challenge: Buffer): Buffer {
    const directives = parseChallenge(challenge);
    const nonce = directives.get("nonce");
    if (nonce === undefined) {
      throw new AuthFailedError(
        "The server does not offer SASL DIGEST-MD5: its challenge has no nonce. It may be set up for Kerberos, " +
          "which is not supported.",
        "terminal",
      );
    }
    const realm = directives.get("realm") ?? "";
    const { username } = this.sasl;
    const proof = (verb: string) => this.#proof(username, realm, nonce, verb);
    this.#expected = proof("");
    const text = [
      "charset=utf-8",
      `username=${quoted(username)}`,
      `realm=${quoted(realm)}`,
      `nonce=${quoted(nonce)}`,
      `nc=${FIRST_USE}`,
      `cnonce=${quoted(this.cnonce)}`,
      `digest-uri=${quoted(DIGEST_URI)}`,
      `response=${proof("AUTHENTICATE")}`,
      "qop=auth",
    ].join(",");
    return Buffer.from(text);
  }

  /** The server proves that it knows the password by the digest of the same exchange without the verb. */
  verify(reply: Buffer): void {
    if (parseChallenge(reply).get("rspauth") === this.#expected) return;
    throw new AuthFailedError(
      "The server could not prove that it knows the password: it may be an impostor.",
      "terminal",
    );
  }

  #proof(username: string, realm: string, nonce: string, verb: string): string {
    const secret = md5(narrowed(username), ":", narrowed(realm), ":", narrowed(this.sasl.password));
    const a1 = md5(secret, `:${nonce}:${this.cnonce}`).toString("hex");
    const a2 = md5(`${verb}:${DIGEST_URI}`).toString("hex");
    return md5(`${a1}:${nonce}:${FIRST_USE}:${this.cnonce}:auth:${a2}`).toString("hex");
  }
}
