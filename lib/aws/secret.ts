import * as z from "zod/mini";
import type { ZooKeeperOptions } from "../zookeeper";

/** What the ensemble asks of its clients, as far as it is secret. */
export type ZooKeeperCredentials = Pick<ZooKeeperOptions, "authentication" | "sasl" | "tls">;

/** The secret cannot be read or is not what it should be. The message never repeats what is in it. Terminal. */
export class SecretError extends Error {
  override readonly name = "SecretError";
  readonly outcome = "terminal";
}

/** Reads the text of a secret; undefined where it has none. */
export type SecretReader = (name: string) => Promise<string | undefined>;

const text = z.string().check(z.minLength(1));
const schema = z.strictObject({
  authentication: z.optional(z.array(z.strictObject({ scheme: text, auth: text }))),
  sasl: z.optional(z.strictObject({ username: text, password: text })),
  tls: z.optional(
    z.union([
      z.boolean(),
      z.strictObject({
        ca: z.optional(text),
        cert: z.optional(text),
        key: z.optional(text),
        passphrase: z.optional(text),
        servername: z.optional(text),
      }),
    ]),
  ),
});

const FORM =
  '{"authentication":[{"scheme","auth"}],"sasl":{"username","password"},"tls":true|{"ca","cert","key",...}}';

/**
 * Reads the credentials for ZooKeeper: JSON of the form of {@link ZooKeeperCredentials}.
 *
 * @param name an ARN of Secrets Manager, or the name or ARN of a parameter of SSM (which may be a SecureString).
 */
export async function readCredentials(
  name: string,
  read: SecretReader = readSecret,
): Promise<ZooKeeperCredentials> {
  let secret: string | undefined;
  try {
    secret = await read(name);
  } catch (error) {
    const { name: kind = "Error", message = "" } = (error ?? {}) as Partial<Error>;
    throw new SecretError(
      `the secret ${name} (ZOOKEEPER_SECRET) cannot be read: ${kind}: ${message}. Does it exist in this region, and may ` +
        "this function's role read it?",
      { cause: error },
    );
  }
  const parsed = schema.safeParse(parseJson(secret));
  if (parsed.success) return withoutAbsent(parsed.data) as ZooKeeperCredentials;
  const places = parsed.error.issues.map(({ path, code }) => (path.length > 0 ? path.join(".") : code));
  throw new SecretError(
    `the secret ${name} (ZOOKEEPER_SECRET) must be JSON of the form ${FORM}; wrong: ${places.join(", ")}`,
  );
}

function parseJson(secret: string | undefined): unknown {
  try {
    return JSON.parse(secret ?? "");
  } catch {
    return undefined;
  }
}

function withoutAbsent(record: object): object {
  return Object.fromEntries(Object.entries(record).filter(([, value]) => value !== undefined));
}

const readSecret: SecretReader = async (name) => {
  if (name.includes(":secretsmanager:")) return (await import("./secret-client.js")).getSecret(name);
  return (await import("./parameter-client.js")).getParameter(name);
};
