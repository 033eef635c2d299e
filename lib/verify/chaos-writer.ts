import { reading } from "../checkpoint/commit";
import type { Clock } from "../clock";
import { SOURCE } from "../simulation/summary-pipeline";
import {
  ConnectionLossError,
  NotConnectedError,
  SessionExpiredError,
  type ZooKeeperClient,
} from "../zookeeper";

const ZNODES = 40;
const DELETIONS = 0.15;
const PAUSE_MS = 15;

/**
 * The writer with its log: every value of every znode, in order; null is a deletion. Servers die under it as well:
 * what a lost reply meant, it finds out by reading, since nobody else writes these znodes.
 */
export class ChaosWriter {
  readonly log = new Map<string, (string | null)[]>();
  writes = 0;
  private readonly alive = new Set<string>();

  constructor(
    private readonly client: ZooKeeperClient,
    private readonly random: () => number,
    private readonly clock: Clock,
  ) {}

  async run(isOver: () => boolean): Promise<void> {
    while (!isOver()) {
      await this.write(`${SOURCE}/znode-${Math.floor(this.random() * ZNODES)}`);
      await this.clock.sleep(this.random() * 2 * PAUSE_MS);
    }
  }

  private async write(path: string): Promise<void> {
    const { alive, log } = this;
    const wasAlive = alive.has(path);
    const value = wasAlive && this.random() < DELETIONS ? null : `value-${this.writes}`;
    while (!(await this.attempt(path, value, wasAlive)));
    if (value === null) alive.delete(path);
    else alive.add(path);
    const values = log.get(path);
    if (values) values.push(value);
    else log.set(path, [value]);
    this.writes += 1;
  }

  /** Whether it has taken effect; false: it has not, and never will. */
  private async attempt(path: string, value: string | null, wasAlive: boolean): Promise<boolean> {
    const { client } = this;
    try {
      if (value === null) await client.delete(path);
      else if (wasAlive) await client.setData(path, Buffer.from(value));
      else await client.create(path, Buffer.from(value));
      return true;
    } catch (error) {
      const isLoss =
        error instanceof ConnectionLossError ||
        error instanceof SessionExpiredError ||
        error instanceof NotConnectedError;
      if (!isLoss) throw error;
      await client.connected();
      return (await this.read(path)) === value;
    }
  }

  private read(path: string): Promise<string | null> {
    const { client } = this;
    return reading(client, async () => {
      await client.sync(path);
      if (!(await client.exists(path))) return null;
      return (await client.getData(path)).data.toString("utf8");
    });
  }
}
