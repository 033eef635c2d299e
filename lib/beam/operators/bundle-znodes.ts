import type { ZnodeCheck } from "../api";
import type { FollowedZnode, HeldValue } from "../followed-znode";
import type { ZnodeParam } from "../znode-param";

/** What a bundle sees of the znodes that its transforms follow: the values of its beginning, whatever comes meanwhile. */
export class BundleZnodes {
  private readonly held: ReadonlyMap<FollowedZnode<unknown>, HeldValue<unknown>>;
  private readonly checked = new Map<FollowedZnode<unknown>, ZnodeCheck>();

  constructor(followed: Iterable<FollowedZnode<unknown>>) {
    this.held = new Map([...followed].map((znode) => [znode, znode.held()]));
  }

  lookup({ followed, checksVersion }: ZnodeParam<unknown>): unknown {
    const { value, version } = this.held.get(followed)!;
    if (checksVersion && !this.checked.has(followed))
      this.checked.set(followed, { path: followed.path, version: version! });
    return value;
  }

  /** Of what was looked up, what the commit has to check. */
  get checks(): readonly ZnodeCheck[] {
    return [...this.checked.values()];
  }
}
