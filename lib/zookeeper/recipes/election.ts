import { NoNodeError, type ZooKeeper } from "../index";
import { inOrder, type LineClient, type LineOptions, persistently, type Turn, takeTurn } from "./line";

/** Stands for election at a path: resolves when this client leads. `leave` to resign, for good. */
export function campaign(client: LineClient, path: string, options: LineOptions = {}): Promise<Turn> {
  return takeTurn(client, path, options);
}

export interface Leader {
  readonly path: string;
  /** What the leader gave as `data`. */
  readonly data: Buffer;
  readonly fence: bigint;
}

/** Who leads at the moment, as far as the server in use knows; null where nobody stands. */
export async function currentLeader(client: ZooKeeper, path: string): Promise<Leader | null> {
  for (;;) {
    try {
      const { children } = await persistently(() => client.getChildren(path));
      const [first] = inOrder(children);
      if (first === undefined) return null;
      const leaderPath = `${path === "/" ? "" : path}/${first}`;
      const { data, stat } = await persistently(() => client.getData(leaderPath));
      return { path: leaderPath, data, fence: stat.czxid };
    } catch (error) {
      if (!(error instanceof NoNodeError)) throw error;
      if (error.path === path) return null;
    }
  }
}
