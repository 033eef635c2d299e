import type { ZooKeeperClient } from "../zookeeper";
import { MARK, MARKS } from "./summary-pipeline";
import type { World } from "./world";

/** What the znode held from this transaction on. */
interface Written {
  readonly zxid: bigint;
  readonly value: string;
}

/**
 * The znode that summaries look up with `checkVersion`, written again and again while they are committed. Its log tells
 * afterwards whether each was committed with the value that the znode had at that moment.
 */
export class Mark {
  private readonly log: Written[] = [];

  constructor(
    private readonly world: World,
    private readonly client: ZooKeeperClient,
  ) {}

  async begin(): Promise<void> {
    // Compiling is shared by all runs, and the znode's transactions may have the same numbers in two of them.
    await this.world.pipeline.tearDown();
    await this.world.changed?.tearDown();
    const { stat } = await this.client.create(MARK, Buffer.from("0"));
    this.log.push({ zxid: stat.mzxid, value: "0" });
    await this.client.create(MARKS);
  }

  /** Writes until the run is being ended. */
  async keep(): Promise<void> {
    const { time } = this.world;
    while (!this.world.isEnding) {
      await time.sleep(time.between(20, 400));
      const value = String(this.log.length);
      const { mzxid } = await this.client.setData(MARK, Buffer.from(value));
      this.log.push({ zxid: mzxid, value });
    }
  }

  /** What is wrong with what was committed, in sentences. */
  async judge(): Promise<string[]> {
    const { children } = await this.client.getChildren(MARKS);
    const all = await Promise.all(children.map((name) => this.client.getData(`${MARKS}/${name}`)));
    return all.flatMap(({ data, stat }, index) => {
      const value = data.toString("utf8");
      const then = this.log.findLast(({ zxid }) => zxid < stat.mzxid)?.value;
      return value === then
        ? []
        : [`${children[index]} was committed with the mark ${value} while it was ${then}`];
    });
  }
}
