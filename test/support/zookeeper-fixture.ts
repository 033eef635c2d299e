/** What most tests of the client stand on: one server for a file, and for each test a znode, a proxy and a client. */
import { connect, type ZooKeeper, type ZooKeeperOptions } from "../../lib/zookeeper";
import { TcpProxy } from "./tcp-proxy";
import { type LocalZooKeeper, startZooKeeper, type ZooKeeperServerOptions } from "./zookeeper-server";

export interface Fixture {
  readonly server: LocalZooKeeper;
  /** Straight to the server, for the whole file. */
  readonly writer: ZooKeeper;
  /** The znode of this test. */
  readonly root: string;
  /** In front of the server, for this test. */
  readonly proxy: TcpProxy;
  /** Through the proxy, for this test. */
  readonly client: ZooKeeper;
}

export interface FixtureOptions {
  readonly server?: ZooKeeperServerOptions;
  /** Of the client of each test; `false`: the test opens its own. */
  readonly client?: Partial<ZooKeeperOptions> | false;
}

/** Registers the steps before and after; what it returns is filled in by them, so take it in a `beforeEach`. */
export function useZooKeeper(options: FixtureOptions = {}): Fixture {
  const fixture: { -readonly [Key in keyof Fixture]?: Fixture[Key] } = {};
  let tests = 0;

  beforeAll(async () => {
    fixture.server = await startZooKeeper(options.server);
    fixture.writer = await connect({ connectString: fixture.server.connectString });
  });
  afterAll(async () => {
    await fixture.writer?.close();
    await fixture.server?.stop();
  });
  beforeEach(async () => {
    tests += 1;
    fixture.root = `/test-${tests}`;
    await fixture.writer!.create(fixture.root);
    fixture.proxy = await TcpProxy.start(fixture.server!.connectString);
    if (options.client === false) return;
    fixture.client = await connect({ connectString: fixture.proxy.address, ...options.client });
  });
  afterEach(async () => {
    await fixture.client?.close();
    await fixture.proxy?.stop();
  });
  return fixture as Fixture;
}

/**
 * By how many milliseconds the promise settles after a timer of `limitMs` that starts now; negative where it is earlier.
 * What holds a busy process up holds up both.
 */
export async function lateness(promise: Promise<unknown>, limitMs: number): Promise<number> {
  const now = (): number => performance.now();
  const due = new Promise<void>((done) => setTimeout(done, limitMs)).then(now);
  const settled = promise.then(now, now);
  return (await settled) - (await due);
}

export const bytes = (text: string): Buffer => Buffer.from(text);

/** What the promise rejects with; undefined where it does not. */
// biome-ignore lint/suspicious/noExplicitAny: tests look into errors of every kind.
export function rejection(promise: Promise<unknown>): Promise<any> {
  return promise.then(
    () => undefined,
    (error) => error,
  );
}
