import { type Log, silent } from "../../lib/log";
import { connect, NoAuthError, type ZooKeeper } from "../../lib/zookeeper";
import { Deployment, readTree, temporaryFolder } from "../support/deployment";
import { type Summary, summaryPipeline } from "../support/sample-pipelines";
import { type LocalZooKeeper, startZooKeeper } from "../support/zookeeper-server";

const ADMIN = { scheme: "digest", auth: "admin:a" } as const;
const FUNCTIONS = { scheme: "digest", auth: "functions:f" } as const;
const READ = 1;
const CREATE = 4;
const ALL = 31;
const place = { source: "/app", results: "/results" };

let server: LocalZooKeeper;
let admin: ZooKeeper;
let folder: ReturnType<typeof temporaryFolder>;
let identity: string;
let deployments: Deployment[];

beforeAll(async () => {
  folder = temporaryFolder();
  server = await startZooKeeper();
  admin = await connect({ connectString: server.connectString, authentication: [ADMIN] });
  const functions = await connect({ connectString: server.connectString, authentication: [FUNCTIONS] });
  await functions.create("/whoami", undefined, { acl: [{ perms: ALL, scheme: "auth", id: "" }] });
  identity = (await functions.getAcl("/whoami")).acl[0]!.id;
  await functions.delete("/whoami");
  await functions.close();
});

beforeEach(() => {
  deployments = [];
});

afterEach(async () => {
  for (const deployment of deployments) await deployment.end();
});

afterAll(async () => {
  await admin?.close();
  await server?.stop();
  folder?.remove();
});

/** What the administrator may do with it, and the functions beside that. */
const granting = (perms: number) => ({
  acl: [
    { perms: ALL, scheme: "auth", id: "" },
    ...(perms === 0 ? [] : [{ perms, scheme: "digest", id: identity }]),
  ],
});

function deploy(root: string, log: Log = silent): Deployment {
  const definition = summaryPipeline(place);
  const options = { connectString: server.connectString, definition, output: folder.path, root, log };
  const deployment = new Deployment({ ...options, credentials: { authentication: [FUNCTIONS] } });
  deployments.push(deployment);
  return deployment;
}

test("read on the source, all on its own root, and what its results need: the whole pipeline works with that", async () => {
  await admin.create("/app", Buffer.from("root"), granting(READ));
  await admin.create("/results", undefined, granting(READ | CREATE));
  await admin.create("/beamkeeper", undefined, granting(ALL));
  const { acl } = await admin.getAcl("/");
  await admin.setAcl("/", granting(READ).acl);
  try {
    const deployment = deploy("/beamkeeper");
    await deployment.settled(admin);
    await admin.create("/app/a", Buffer.from("1"), granting(READ));
    await admin.setData("/app/a", Buffer.from("2"));
    await admin.create("/app/secret", Buffer.from("for the administrator alone"), granting(0));
    await deployment.settled(admin);
    const found = [...(await readTree(admin, "/results")).values()].filter(Boolean);
    const values = found.flatMap((text) => (JSON.parse(text) as Summary).seen.map(({ value }) => value));
    expect(values).toContain("2");
    expect(values).not.toContain("for the administrator alone");
    expect((await admin.getChildren("/")).children.sort()).toEqual([
      "app",
      "beamkeeper",
      "results",
      "zookeeper",
    ]);
  } finally {
    await admin.setAcl("/", acl);
  }
});

/** The ACLs of a znode and of all below it, each once, as text. */
async function aclsBelow(path: string): Promise<Set<string>> {
  const { acl } = await admin.getAcl(path);
  const { children } = await admin.getChildren(path);
  const below = await Promise.all(children.map((child) => aclsBelow(`${path}/${child}`)));
  return new Set([JSON.stringify(acl), ...below.flatMap((acls) => [...acls])]);
}

test("what lies below the root has the root's ACL, so that copies of values are for nobody else", async () => {
  const { acl } = await admin.getAcl("/beamkeeper");
  expect(acl).toHaveLength(2);
  expect(await aclsBelow("/beamkeeper")).toEqual(new Set([JSON.stringify(acl)]));
  const stranger = await connect({ connectString: server.connectString });
  await expect(stranger.getChildren("/beamkeeper/summary")).rejects.toBeInstanceOf(NoAuthError);
  await stranger.close();
});

test("a root that is not there yet belongs to who creates it, where that has an identity", async () => {
  const own = await connect({ connectString: server.connectString, authentication: [FUNCTIONS] });
  try {
    await deploy("/own").settled(own);
    expect((await own.getAcl("/own")).acl).toEqual([{ perms: ALL, scheme: "digest", id: identity }]);
  } finally {
    await own.close();
  }
  await expect(admin.getChildren("/own/summary")).rejects.toBeInstanceOf(NoAuthError);
});

test("a right that is missing at the root is told with the path", async () => {
  await admin.create("/closed", undefined, granting(READ));
  await expect(deploy("/closed").relay).rejects.toThrow(
    /create of \/closed\/summary: the znode's ACL does not allow it/,
  );
});

test("a source that may not be read is told of in the log, and nothing of it is taken for deleted", async () => {
  await admin.setAcl("/app", granting(0).acl);
  const told = new Promise<Record<string, unknown>>((resolve) => {
    const log: Log = (level, message, fields) => {
      if (level === "warn" && message.startsWith("no right to read")) resolve(fields ?? {});
    };
    deploy("/beamkeeper", log);
  });
  expect(await told).toMatchObject({ paths: ["/app"] });
  await deployments[0]!.settled(admin);
  const found = [...(await readTree(admin, "/results")).values()].filter(Boolean);
  expect(found.join()).not.toContain("deleted");
});
