import { hearReplays } from "../../lib/relay/replays";
import { connect, type ZooKeeper } from "../../lib/zookeeper";
import { TcpProxy } from "../support/tcp-proxy";
import { type LocalZooKeeper, startZooKeeper } from "../support/zookeeper-server";

const PATH = "/replays";
let server: LocalZooKeeper;
let direct: ZooKeeper;
let proxy: TcpProxy;
let client: ZooKeeper;

beforeAll(async () => {
  server = await startZooKeeper();
  direct = await connect({ connectString: server.connectString });
  await direct.create(PATH);
});

beforeEach(async () => {
  proxy = await TcpProxy.start(server.connectString);
  client = await connect({ connectString: proxy.address });
});

afterEach(async () => {
  await client?.close();
  await proxy?.stop();
});

afterAll(async () => {
  await direct?.close();
  await server?.stop();
});

/** Listens; `next` resolves with the zxid of the next wake-up. */
function listen() {
  const stop = new AbortController();
  const woken: bigint[] = [];
  let notify = (): void => undefined;
  const wake = (zxid: bigint): void => {
    woken.push(zxid);
    notify();
  };
  const ended = hearReplays(client, PATH, wake, stop.signal);
  let taken = 0;
  const next = async (): Promise<bigint> => {
    while (woken.length <= taken)
      await new Promise<void>((resolve) => {
        notify = resolve;
      });
    return woken[taken++]!;
  };
  return { next, woken, stop: () => stop.abort(), ended };
}

test("it wakes at the start, and for each write with a zxid that has seen it", async () => {
  const { next, woken, stop, ended } = listen();
  await next();
  for (let nth = 1; nth <= 3; nth++) {
    const { mzxid } = await direct.setData(PATH, Buffer.from(`${nth}`));
    expect((await next()) >= mzxid).toBe(true);
  }
  stop();
  await ended;
  expect(woken).toHaveLength(4);
});

test("a write while the connection was gone is made up for", async () => {
  const { next, stop, ended } = listen();
  await next();
  proxy.stall("toServer");
  proxy.cut();
  const { mzxid } = await direct.setData(PATH, Buffer.from("meanwhile"));
  proxy.resume();
  expect((await next()) >= mzxid).toBe(true);
  stop();
  await ended;
});
