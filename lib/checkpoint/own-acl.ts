import { type Acl, NoAuthError, NoNodeError, type Op, type ZooKeeper } from "../zookeeper";
import { reading } from "./commit";

const ALL = 31;
/** Every right for whoever creates the znode, by all its identities. ZooKeeper: the scheme "auth". */
const CREATOR_ALL: readonly Acl[] = [{ perms: ALL, scheme: "auth", id: "" }];

/**
 * The client, with which what is created at the root and below it gets the root's ACL, as ZooKeeper's znodes do not by
 * themselves. Where there is no root yet, it and all below it are for their creator alone if the client has an identity.
 *
 * @param hasIdentity whether the client authenticates itself.
 */
export async function withOwnAcl(client: ZooKeeper, root: string, hasIdentity: boolean): Promise<ZooKeeper> {
  const acl = await aclOf(client, root, hasIdentity);
  if (acl === undefined) return client;
  const isOwn = (path: string): boolean => path === root || path.startsWith(`${root}/`);
  const owned = <O extends { readonly acl?: readonly Acl[] }>(path: string, options?: O): O | undefined =>
    isOwn(path) && options?.acl === undefined ? ({ ...options, acl } as O) : options;
  const own: Partial<ZooKeeper> = {
    create: (path, data, options) => client.create(path, data, owned(path, options)),
    createPath: (path, data, options) => client.createPath(path, data, owned(path, options)),
    multi: (ops, options) =>
      client.multi(
        ops.map((op): Op => (op.type === "create" ? owned(op.path, op)! : op)),
        options,
      ),
  };
  return new Proxy(client, {
    get(target, name) {
      const mine = own[name as keyof typeof own];
      if (mine !== undefined) return mine;
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}

/** What is created gets; undefined where ZooKeeper's default is as good. */
async function aclOf(
  client: ZooKeeper,
  root: string,
  hasIdentity: boolean,
): Promise<readonly Acl[] | undefined> {
  try {
    const { acl } = await reading(client, () => client.getAcl(root));
    const isOpen = acl.some(
      ({ perms, scheme, id }) => perms === ALL && scheme === "world" && id === "anyone",
    );
    return isOpen ? undefined : acl;
  } catch (error) {
    if (error instanceof NoNodeError) return hasIdentity ? CREATOR_ALL : undefined;
    // Whoever may not read the ACL finds out with the first write what it may not do.
    if (error instanceof NoAuthError) return undefined;
    throw error;
  }
}
