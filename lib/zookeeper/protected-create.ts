import type { CallOptions, Stat } from "./api";
import {
  ConnectionLossError,
  NodeExistsError,
  NoNodeError,
  OperationTimeoutError,
  ZooKeeperError,
} from "./errors";
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

type Reads = Pick<Operations, "sync" | "exists" | "getChildren">;

/**
 * A create that may be repeated, because its name tells whether it was done. `create` is tried as often as the
 * connection breaks while it waits for its reply; between the tries the parent's children are looked through. The
 * signal and the time limit are for all of it.
 *
 * `id` belongs to this create alone (default: a random one).
 *
 * Rejects as create does, except that a lost connection alone never makes it reject: `NotConnectedError` after
 * connectTimeoutMs without a server, `SessionExpiredError` when the session ends. Where a create was sent before, those
 * are ambiguous.
 */
export async function protectedCreate(
  client: Reads,
  path: string,
  options: CallOptions,
  nowMs: () => number,
  create: (path: string, options: CallOptions) => Promise<Created>,
  id: string = process.getBuiltinModule("node:crypto").randomUUID(),
): Promise<Created> {
  const target = protectedPath(path, id);
  const remaining = bounded(path, options, nowMs);
  for (let wasLost = false; ; wasLost = true) {
    try {
      if (wasLost) {
        const found = await find(client, target, remaining);
        if (found) return found;
      }
      return await create(target.path, remaining());
    } catch (error) {
      // A NodeExists says that the lost create has been applied after the look.
      const isOurs = error instanceof ConnectionLossError || (wasLost && error instanceof NodeExistsError);
      if (!isOurs) throw wasLost ? asAmbiguous(error) : error;
    }
  }
}

/** The options of the next call: what is left of the time. */
function bounded(path: string, options: CallOptions, nowMs: () => number): () => CallOptions {
  const { signal, timeoutMs } = options;
  if (timeoutMs === undefined || !(timeoutMs > 0)) return () => ({ signal, timeoutMs });
  const deadlineMs = nowMs() + timeoutMs;
  return () => {
    const leftMs = deadlineMs - nowMs();
    if (leftMs > 0) return { signal, timeoutMs: leftMs };
    const text = `create of ${path}: ${timeoutMs} ms have passed, and the replies were lost.`;
    throw new OperationTimeoutError(text, "ambiguous", undefined, path);
  };
}

/** That nothing happened is true of the last try alone. */
function asAmbiguous(error: unknown): unknown {
  if (!(error instanceof ZooKeeperError) || error.outcome !== "retryable") return error;
  const Type = error.constructor as typeof ZooKeeperError;
  const message = `${error.message} An earlier try of this protected create may have taken effect.`;
  return new Type(message, "ambiguous", error.code, error.path, { cause: error.cause ?? error });
}

type Target = ReturnType<typeof protectedPath>;

async function find(
  client: Reads,
  { parent, prefix }: Target,
  remaining: () => CallOptions,
): Promise<Created | undefined> {
  try {
    // The server in use now may be behind the one that has applied the create.
    await client.sync(parent, remaining());
    const { children } = await client.getChildren(parent, remaining());
    const name = children.find((child) => child.startsWith(prefix));
    if (name === undefined) return undefined;
    const path = parent === "/" ? `/${name}` : `${parent}/${name}`;
    const stat = await client.exists(path, remaining());
    return stat === null ? undefined : { path, stat };
  } catch (error) {
    if (error instanceof NoNodeError) return undefined;
    throw error;
  }
}
