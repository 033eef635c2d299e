/**
 * The writer of the relay's benchmark, in a process of its own, so that its work is not the relay's. Told by a message
 * how much to write, as often as it is asked; answers with when each write was acknowledged, in ms of the machine's monotonic clock.
 */
import { connect } from "../lib/zookeeper";

export interface WriteOrder {
  readonly connectString: string;
  readonly root: string;
  readonly znodes: number;
  readonly writes: number;
  readonly inFlight: number;
  /** Over how long the writes are spread; 0 is as fast as they go. */
  readonly spreadMs: number;
}

export interface WriteReport {
  /** When the write of the value `index` was acknowledged. */
  readonly acknowledgedMs: readonly number[];
}

export function monotonicMs(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}

async function write(order: WriteOrder): Promise<WriteReport> {
  const { connectString, root, znodes, writes, inFlight, spreadMs } = order;
  const client = await connect({ connectString });
  const acknowledgedMs: number[] = [];
  const beganMs = monotonicMs();
  let next = 0;
  const work = async (): Promise<void> => {
    while (next < writes) {
      const index = next++;
      const waitMs = (index * spreadMs) / writes - (monotonicMs() - beganMs);
      if (waitMs > 1) await new Promise((done) => setTimeout(done, waitMs));
      await client.setData(`${root}/z${index % znodes}`, Buffer.from(`${index}`));
      acknowledgedMs[index] = monotonicMs();
    }
  };
  await Promise.all(Array.from({ length: inFlight }, work));
  await client.close();
  return { acknowledgedMs };
}

if (process.send) {
  process.on("message", (order: WriteOrder) => {
    void write(order).then((report) => process.send!(report));
  });
}
