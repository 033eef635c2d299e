import type { ModelClient } from "./model-client";
import { SOURCE } from "./summary-pipeline";
import { LEAST_ELEMENTS, LEAST_FAULTS, POISON, type World } from "./world";

const MOST_WRITES = 10_000;

/** The independent writer with its log: every value of every znode, in order; null is a deletion. */
export class Writer {
  readonly log = new Map<string, (string | null)[]>();
  private readonly alive = new Set<string>();
  private readonly znodes: number;
  private readonly deletions: number;
  private readonly pauseMs: number;
  private readonly burst: number;
  private readonly poison: number;

  constructor(
    private readonly world: World,
    private readonly client: ModelClient,
  ) {
    const { time } = world;
    this.znodes = time.chance(0.2) ? time.between(4, 8) : time.between(12, 60);
    this.deletions = time.random() * 0.3;
    this.pauseMs = time.between(0, 40);
    this.poison = time.chance(0.3) ? 0.02 : 0;
    // Some write one znode after the other; most write several at once, so that segments and bundles hold several.
    this.burst = time.chance(0.1) ? 1 : time.between(10, 40);
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
    const { world, znodes, deletions, pauseMs, poison } = this;
    const { time, ensemble, tally } = world;
    const paths = new Set<string>();
    for (let count = time.between(1, this.burst); count > 0; count--)
      paths.add(`${SOURCE}/znode-${time.between(1, znodes)}`);
    const text = (): string => `${time.chance(poison) ? POISON : "value"}-${tally.writes++}`;
    await Promise.all([...paths].map((path) => this.write(path, text(), deletions)));
    // What is still to be struck has to be at work; more writes alone would only be coalesced.
    if (world.isUrgent) await time.sleep(time.between(50, 300));
    else if (time.chance(0.3)) await time.sleep(time.random() * pauseMs * 3);
    if (time.chance(0.01)) ensemble.clockSkewMs += time.between(-5_000, 5_000);
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
