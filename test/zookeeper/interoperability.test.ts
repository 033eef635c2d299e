/**
 * Interoperability with kazoo, the Python client, and node-zookeeper-client: what one writes the other reads, stats and
 * ACLs included. kazoo is installed with pip into a folder of the project's own when it is not there; where that can't
 * be done (no Python, no package index), its tests are skipped.
 */
import { spawn } from "node:child_process";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { promisify } from "node:util";
import { ACL, createClient, Id, type PeerStat } from "node-zookeeper-client";
import { ensureKazoo } from "../../infra/zookeeper/kazoo";
import { type Acl, type CreateMode, connect, type Stat, type ZooKeeper } from "../../lib/zookeeper";
import { WatchRecorder } from "../support/watch-recorder";
import { type LocalZooKeeper, startZooKeeper } from "../support/zookeeper-server";

type PlainMode = "persistent" | "ephemeral" | "persistent-sequential" | "ephemeral-sequential";

type Command = { readonly path: string } & (
  | { readonly kind: "create"; readonly data: string; readonly mode: PlainMode; readonly acl: readonly Acl[] }
  | { readonly kind: "set"; readonly data: string; readonly version: number }
  /** Creates the znode, sets its data, and creates and deletes a child, all at once. */
  | { readonly kind: "multi"; readonly data: string }
  | { readonly kind: "get" | "exists" | "children" | "acl" | "delete" }
);

interface Peer {
  /** Like kazoo-peer.py: `get` gives `{ data, stat }` with a stat of texts, `create` the path. */
  ask(command: Command): Promise<unknown>;
  stop(): Promise<void>;
}

const OPEN: readonly Acl[] = [{ perms: 31, scheme: "world", id: "anyone" }];
const MODES: readonly PlainMode[] = [
  "persistent",
  "ephemeral",
  "persistent-sequential",
  "ephemeral-sequential",
];
const FLAGS: Readonly<Record<PlainMode, number>> = {
  persistent: 0,
  ephemeral: 1,
  "persistent-sequential": 2,
  "ephemeral-sequential": 3,
};

async function startKazoo(python: string, connectString: string): Promise<Peer> {
  const child = spawn(python, [join(__dirname, "kazoo-peer.py"), connectString], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  const lines = createInterface({ input: child.stdout });
  const answers = lines[Symbol.asyncIterator]();
  expect((await answers.next()).value).toBe('"ready"');
  return {
    ask: async (command) => {
      child.stdin.write(`${JSON.stringify(command)}\n`);
      return JSON.parse((await answers.next()).value);
    },
    stop: async () => {
      child.stdin.end();
      lines.close();
    },
  };
}

function textsOfPeer(stat: PeerStat): Record<string, string> {
  const fields = Object.entries(stat).flatMap(([name, value]: [string, unknown]) => {
    if (Buffer.isBuffer(value)) return [[name, `${value.readBigInt64BE()}`]];
    // The package's own fields are neither.
    return typeof value === "number" ? [[name, `${value}`]] : [];
  });
  return Object.fromEntries(fields);
}

async function startNodeClient(connectString: string): Promise<Peer> {
  const client = createClient(connectString);
  const connected = new Promise<void>((done) => client.once("connected", done));
  client.connect();
  await connected;
  const get = (path: string): Promise<unknown> =>
    new Promise((done, fail) =>
      client.getData(path, (error, data, stat) =>
        error ? fail(error) : done({ data: data?.toString() ?? "", stat: textsOfPeer(stat) }),
      ),
    );
  const ask = async (command: Command): Promise<unknown> => {
    const { path } = command;
    switch (command.kind) {
      case "create": {
        const acl = command.acl.map(({ perms, scheme, id }) => new ACL(perms, new Id(scheme, id)));
        const [data, flags] = [Buffer.from(command.data), FLAGS[command.mode]];
        return new Promise((done, fail) =>
          client.create(path, data, acl, flags, (error, created) => (error ? fail(error) : done(created))),
        );
      }
      case "set":
        await promisify(client.setData.bind(client))(path, Buffer.from(command.data), command.version);
        return true;
      case "delete":
        await promisify(client.remove.bind(client))(path, -1);
        return true;
      case "exists":
        return (await promisify(client.exists.bind(client))(path)) !== null;
      case "children":
        return (await promisify(client.getChildren.bind(client))(path)).sort();
      case "acl":
        return (await promisify(client.getACL.bind(client))(path)).map(({ permission, id }) => ({
          perms: permission,
          scheme: id.scheme,
          id: id.id,
        }));
      case "get":
        return get(path);
      case "multi": {
        const transaction = client.transaction();
        transaction.create(path, Buffer.from("1")).setData(path, Buffer.from(command.data), -1);
        transaction.create(`${path}/child`, Buffer.alloc(0)).remove(`${path}/child`, -1);
        await promisify(transaction.commit.bind(transaction))();
        return true;
      }
    }
  };
  return {
    ask,
    stop: () => {
      const disconnected = new Promise<void>((done) => client.once("disconnected", done));
      client.close();
      return disconnected;
    },
  };
}

const PYTHON = ensureKazoo();
const PEERS: readonly (readonly [string, ((connectString: string) => Promise<Peer>) | undefined])[] = [
  ["kazoo", PYTHON === undefined ? undefined : (address) => startKazoo(PYTHON, address)],
  ["node-zookeeper-client", startNodeClient],
];

let server: LocalZooKeeper;
let client: ZooKeeper;

beforeAll(async () => {
  server = await startZooKeeper();
  client = await connect({ connectString: server.connectString });
});

afterAll(async () => {
  await client?.close();
  await server?.stop();
});

function texts(stat: Stat): Record<string, string> {
  return Object.fromEntries(Object.entries(stat).map(([name, value]) => [name, `${value}`]));
}

async function asWeReadIt(path: string): Promise<unknown> {
  const { data, stat } = await client.getData(path);
  return { data: data.toString(), stat: texts(stat) };
}

for (const [name, start] of PEERS) {
  (start ? describe : describe.skip)(name, () => {
    const root = `/${name}`;
    let peer: Peer;

    beforeAll(async () => {
      peer = await start!(server.connectString);
      await client.create(root);
    });
    afterAll(() => peer?.stop());

    const bothReadTheSame = async (path: string): Promise<void> => {
      expect(await peer.ask({ kind: "get", path })).toEqual(await asWeReadIt(path));
    };

    test.each<CreateMode>([...MODES, "container"])(
      "reads a %s znode of ours, stat included",
      async (mode) => {
        const { path } = await client.create(`${root}/ours-${mode}`, Buffer.from("ä1"), { mode });
        await bothReadTheSame(path);
        const stat = await client.setData(path, Buffer.from("日本"), 0);
        expect(await peer.ask({ kind: "get", path })).toEqual({ data: "日本", stat: texts(stat) });
        if (!mode.startsWith("ephemeral")) await client.create(`${path}/child`);
        await bothReadTheSame(path);
        expect(await peer.ask({ kind: "children", path })).toEqual(
          mode.startsWith("ephemeral") ? [] : ["child"],
        );
      },
    );

    test("reads our empty data, our 500,000 bytes, our ACL and our multi", async () => {
      const acl = [
        { perms: 31, scheme: "ip", id: "127.0.0.1" },
        { perms: 1, scheme: "world", id: "anyone" },
      ];
      const paths = ["empty", "large", "multi"].map((each) => `${root}/${each}`) as [string, string, string];
      await client.create(paths[0], undefined, { acl });
      expect(await peer.ask({ kind: "acl", path: paths[0] })).toEqual(acl);
      await client.create(paths[1], Buffer.alloc(500_000, "x"));
      await client.multi([
        { type: "create", path: paths[2], data: Buffer.from("1") },
        { type: "setData", path: paths[2], data: Buffer.from("2"), version: 0 },
        { type: "create", path: `${paths[2]}/a` },
        { type: "create", path: `${paths[2]}/b` },
        { type: "delete", path: `${paths[2]}/a` },
      ]);
      for (const path of paths) await bothReadTheSame(path);
      expect(await peer.ask({ kind: "children", path: paths[2] })).toEqual(["b"]);
      await client.delete(paths[0]);
      expect(await peer.ask({ kind: "exists", path: paths[0] })).toBe(false);
    });

    test.each(MODES)("writes a %s znode that we read, stat and ACL included", async (mode) => {
      const acl = [{ perms: 31, scheme: "ip", id: "127.0.0.1" }];
      const base = `${root}/theirs-${mode}`;
      const path = String(await peer.ask({ kind: "create", path: base, data: "ü", mode, acl }));
      expect(path).toMatch(mode.endsWith("sequential") ? /\d{10}$/ : /[a-z]$/);
      await bothReadTheSame(path);
      const { stat } = await client.getData(path);
      expect(stat.ephemeralOwner !== 0n).toBe(mode.startsWith("ephemeral"));
      expect((await client.getAcl(path)).acl).toEqual(acl);
      await peer.ask({ kind: "set", path, data: "日本", version: 0 });
      expect((await client.getData(path)).stat.version).toBe(1);
      await bothReadTheSame(path);
      await peer.ask({ kind: "delete", path });
      expect(await client.exists(path)).toBeNull();
    });

    test("is heard by our watches, and its multi is read by us", async () => {
      const path = `${root}/heard`;
      const recorder = new WatchRecorder();
      const watch = await client.addWatch(path, "persistentRecursive", recorder.listener);
      await peer.ask({ kind: "multi", path, data: "2" });
      await peer.ask({ kind: "create", path: `${path}/b`, data: "", mode: "persistent", acl: OPEN });
      await bothReadTheSame(path);
      expect((await client.getChildren(path)).children).toEqual(["b"]);
      const ofChild = [`created ${path}/child`, `deleted ${path}/child`];
      expect(recorder.summary).toEqual([
        `created ${path}`,
        `dataChanged ${path}`,
        ...ofChild,
        `created ${path}/b`,
      ]);
      watch.remove();
    });
  });
}
