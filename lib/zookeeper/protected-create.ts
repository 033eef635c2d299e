import { randomUUID } from "node:crypto";
import type { Stat } from "./api";
import { ConnectionLossError, NodeExistsError, NoNodeError } from "./errors";
import type { Operations } from "./operations";

const PREFIX = "_c_";

interface Created {
  readonly path: string;
  readonly stat: Stat;
}

/** `/a/name` as `/a/_c_<id>-name`: Curator's format, so that its clients know it. */
function protectedPath(path: string, id: string): { parent: string; prefix: string; path: string } {
  const slash = path.lastIndexOf("/");
  const parent = path.slice(0, slash) || "/";
  const prefix = `${PREFIX}${id}-`;
  return { parent, prefix, path: `${path.slice(0, slash)}/${prefix}${path.slice(slash + 1)}` };
}

/**
 * A create that may be repeated, because its name tells whether it was done. `create` is tried as often as the
 * connection breaks while it waits for its reply; between the tries the parent's children are looked through.
 *
 * Rejects as create does, except that a lost connection alone never makes it reject: `NotConnectedError` after
 * connectTimeoutMs without a server, `SessionExpiredError` when the session ends (a persistent znode may then exist).
 */
export async function protectedCreate(
  client: Pick<Operations, "sync" | "exists" | "getChildren">,
  path: string,
  create: (path: string) => Promise<Created>,
): Promise<Created> {
  const target = protectedPath(path, randomUUID());
  for (;;) {
    try {
      return await create(target.path);
    } catch (error) {
      // A NodeExists says that the lost create has been applied after the look.
      const isOurs = error instanceof ConnectionLossError || error instanceof NodeExistsError;
      if (!isOurs) throw error;
      const found = await find(client, target);
      if (found) return found;
    }
  }
}

type Target = ReturnType<typeof protectedPath>;

async function find(
  client: Pick<Operations, "sync" | "exists" | "getChildren">,
  { parent, prefix }: Target,
): Promise<Created | undefined> {
  for (;;) {
    try {
      // The server in use now may be behind the one that has applied the create.
      await client.sync(parent);
      const { children } = await client.getChildren(parent);
      const name = children.find((child) => child.startsWith(prefix));
      if (name === undefined) return undefined;
      const path = parent === "/" ? `/${name}` : `${parent}/${name}`;
      const stat = await client.exists(path);
      return stat === null ? undefined : { path, stat };
    } catch (error) {
      if (error instanceof NoNodeError) return undefined;
      if (!(error instanceof ConnectionLossError)) throw error;
    }
  }
}
