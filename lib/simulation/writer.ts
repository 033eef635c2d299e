import type { ModelClient } from "./model-client";
import type { Ending } from "./operator";
import { SOURCE } from "./summary-pipeline";
import { LATE_POISON, LEAST_ELEMENTS, LEAST_FAULTS, POISON, type World } from "./world";

const MOST_WRITES = 10_000;
/** Whoever has written so much for few elements leaves the relays time to deliver some. */
const MANY_WRITES = 3_000;

/** The independent writer with its log: every value of every znode, in order; null is a deletion. */
export class Writer {
  readonly log = new Map<string, (string | null)[]>();
  private readonly alive = new Set<string>();
  private readonly znodes: number;
  private readonly deletions: number;
  private readonly pauseMs: number;
  private readonly burst: number;
  private readonly poison: number;
  private readonly latePoison: number;
  private hasLull: boolean;

  constructor(
    private readonly world: World,
    private readonly client: ModelClient,
    ending: Ending,
  ) {
    const { time } = world;
    this.znodes = time.chance(0.2) ? time.between(4, 8) : time.between(12, 60);
    this.deletions = time.random() * 0.3;
    this.pauseMs = time.between(0, 40);
    this.poison = time.chance(0.3) ? 0.02 : 0;
    // What fails late has to be mended and replayed, which a pipeline that is drained or cancelled refuses.
    this.latePoison = ending === "settled" && time.chance(0.4) ? 0.02 : 0;
    this.hasLull = time.chance(0.25);
    // Some write one znode after the other; most write several at once, so that segments and bundles hold several.
    this.burst = time.chance(0.05) ? 1 : time.between(10, 40);
  }

  /** Writes in bursts until the run has had enough writes, elements and faults. */
  async run(): Promise<void> {
    const { tally } = this.world;
    const writes = this.world.time.between(200, 260);
    const isEnough = (): boolean =>
      tally.writes >= writes && tally.elements >= LEAST_ELEMENTS && tally.faults >= LEAST_FAULTS;
    while (!isEnough() && tally.writes < MOST_WRITES) await this.step();
  }

  /** So many writes more, at least. */
  async more(writes: number): Promise<void> {
    for (const end = this.world.tally.writes + writes; this.world.tally.writes < end; ) await this.step();
  }

  /** One burst: writes to different znodes, sent together. */
  private async step(): Promise<void> {
    const { world, znodes, deletions, pauseMs } = this;
    const { time, ensemble } = world;
    const paths = new Set<string>();
    for (let count = time.between(1, this.burst); count > 0; count--)
      paths.add(`${SOURCE}/znode-${time.between(1, znodes)}`);
    await Promise.all([...paths].map((path) => this.write(path, this.value(), deletions)));
    if (this.hasLull && time.chance(0.2)) await this.lull();
    // What is still to be struck has to be at work; more writes alone would only be coalesced.
    if (world.isUrgent || world.tally.writes > MANY_WRITES) await time.sleep(time.between(50, 300));
    else if (time.chance(0.3)) await time.sleep(time.random() * pauseMs * 3);
    if (time.chance(0.01)) ensemble.clockSkewMs += time.between(-5_000, 5_000);
  }

  /** One write, and nothing for a while before and after it: a wake-up that is lost is found where no other comes. */
  private async lull(): Promise<void> {
    const { world, znodes } = this;
    const { time } = world;
    this.hasLull = false;
    await time.sleep(time.between(1_500, 3_000));
    world.isLull = true;
    await this.write(`${SOURCE}/znode-${time.between(1, znodes)}`, this.value(), 0);
    await time.sleep(time.between(100, 400));
    world.isLull = false;
    await time.sleep(time.between(4_000, 6_000));
  }

  /** Some of what user code fails on is larger than a segment, as an element and as a dead letter. */
  private value(): string {
    const { time, tally } = this.world;
    const number = tally.writes++;
    if (this.latePoison > 0 && time.chance(this.latePoison)) return `${LATE_POISON}-${number}`;
    if (this.poison === 0 || !time.chance(this.poison)) return `value-${number}`;
    return `${POISON}-${number}${time.chance(0.3) ? "-large".repeat(500) : ""}`;
  }

  private async write(path: string, text: string, deletions: number): Promise<void> {
    const { client, alive, world } = this;
    const value = alive.has(path) && world.time.chance(deletions) ? null : text;
    if (value === null) await client.delete(path);
    else if (alive.has(path)) await client.setData(path, Buffer.from(value));
    else await client.create(path, Buffer.from(value));
    if (value === null) alive.delete(path);
    else alive.add(path);
    const values = this.log.get(path);
    if (values) values.push(value);
    else this.log.set(path, [value]);
  }
}
