/**
 * What people write today instead of a pipeline: a watcher that sums what each znode gets in a second, writes the
 * sums, and then saves how far it is. Two plain writes, so a crash between them counts twice; a change that comes
 * while it is away, or that is overwritten before it reads, is lost without a trace.
 */
import { createClient, type PeerClient, type PeerStat } from "node-zookeeper-client";

const WINDOW_MS = 1000;
/** How long after a second's end it is summed; values that come later are added by writing the sum again. */
const GRACE_MS = 50;

export class HandWrittenWatcher {
  private readonly client: PeerClient;
  private readonly sums = new Map<number, Map<string, number>>();
  private readonly seen = new Map<string, bigint>();
  private readonly written = new Map<string, number>();
  private flushing: NodeJS.Timeout | undefined;
  private lastFlush: Promise<void> = Promise.resolve();
  private lastZxid = 0n;
  /** Values read. */
  elements = 0;
  /** Offsets saved. */
  commits = 0;

  constructor(
    connectString: string,
    private readonly results: string,
    private readonly offset: string,
  ) {
    this.client = createClient(connectString);
  }

  /** Watches the znodes, of which it counts nothing that is there already. */
  async start(paths: readonly string[]): Promise<void> {
    await new Promise<void>((done) => {
      this.client.once("connected", done);
      this.client.connect();
    });
    await this.call((done) => this.client.create(this.results, Buffer.alloc(0), done));
    await this.call((done) => this.client.create(this.offset, Buffer.alloc(0), done));
    await Promise.all(paths.map((path) => this.read(path, false)));
    this.flushing = setInterval(() => {
      this.lastFlush = this.lastFlush.then(() => this.flush());
    }, GRACE_MS / 2);
  }

  /** Whether everything read so far is written. */
  get isIdle(): boolean {
    return this.sums.size === 0;
  }

  async stop(): Promise<void> {
    clearInterval(this.flushing);
    await this.lastFlush;
    this.client.close();
  }

  private async read(path: string, counts: boolean): Promise<void> {
    const { data, stat } = await new Promise<{ data: Buffer; stat: PeerStat }>((resolve, reject) =>
      this.client.getData(
        path,
        () => void this.read(path, true),
        (error, data, stat) => (error ? reject(error) : resolve({ data, stat })),
      ),
    );
    const zxid = stat.mzxid.readBigInt64BE();
    if (this.seen.get(path) === zxid) return;
    this.seen.set(path, zxid);
    if (counts) this.add(path, Number(data.toString("utf8")), Number(stat.mtime.readBigInt64BE()), zxid);
  }

  private add(path: string, value: number, mtimeMs: number, zxid: bigint): void {
    const start = Math.floor(mtimeMs / WINDOW_MS) * WINDOW_MS;
    const sums = this.sums.get(start) ?? new Map<string, number>();
    sums.set(path, (sums.get(path) ?? 0) + value);
    this.sums.set(start, sums);
    if (zxid > this.lastZxid) this.lastZxid = zxid;
    this.elements += 1;
  }

  private async flush(): Promise<void> {
    for (const [start, sums] of [...this.sums]) {
      if (Date.now() < start + WINDOW_MS + GRACE_MS) continue;
      this.sums.delete(start);
      const offset = Buffer.from(this.lastZxid.toString(16));
      await Promise.all([...sums].map(([path, sum]) => this.write(start, path, sum)));
      await this.call((done) => this.client.setData(this.offset, offset, -1, done));
      this.commits += 1;
    }
  }

  private write(start: number, path: string, sum: number): Promise<unknown> {
    const result = `${this.results}/${start}-${encodeURIComponent(path)}`;
    const earlier = this.written.get(result);
    const total = (earlier ?? 0) + sum;
    this.written.set(result, total);
    const data = Buffer.from(JSON.stringify({ path, start, sum: total }));
    if (earlier !== undefined) return this.call((done) => this.client.setData(result, data, -1, done));
    return this.call((done) => this.client.create(result, data, done));
  }

  private call<T>(begin: (done: (error: Error | null, result?: T) => void) => void): Promise<T> {
    return new Promise((resolve, reject) =>
      begin((error, result) => (error ? reject(error) : resolve(result as T))),
    );
  }
}
