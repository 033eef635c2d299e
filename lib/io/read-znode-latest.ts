import { FollowedZnode, requireZnodePath, type WatchedZnode } from "../beam/followed-znode";
import { ZnodeParam } from "../beam/znode-param";
import { type Decoder, text } from "./decode";

export interface ReadZnodeLatestOptions<T> {
  /** Default: UTF-8 text. */
  readonly decode?: Decoder<T>;
  /** The value while there is no such znode. Default: none; bundles wait until the znode exists. Not with `checkVersion`. */
  readonly default?: T;
  /**
   * Whether the version of the znode is checked in the commit of each bundle that looked it up, so that nothing is
   * committed that was computed from an older value: the bundle is run again with the newer one. Default: false.
   */
  readonly checkVersion?: boolean;
  /**
   * What a value does that can't be decoded. `fail`: bundles wait until it is mended. `keep`: the process goes on with the
   * last value that it could decode, and logs a warning; one that has none fails. Default: "fail".
   */
  readonly onUndecodable?: "fail" | "keep";
}

/**
 * What a znode of Beamkeeper's own ensemble holds, as a context parameter: `pc.map(fn, { limits: readZnodeLatest("/limits") })`
 * and `limits.lookup()`. The elements of a bundle see one value, at least as new as the shard's last commit; a change is
 * taken up between bundles. Needs the right to read. What is looked up is shared and must not be changed.
 *
 * @throws TypeError or RangeError if the path or an option has the wrong form.
 */
export function readZnodeLatest<T = string>(
  path: string,
  options: ReadZnodeLatestOptions<T> = {},
): ZnodeParam<T> {
  requireZnodePath("readZnodeLatest", path);
  const { decode = text() as unknown as Decoder<T>, checkVersion = false, onUndecodable = "fail" } = options;
  const hasDefault = "default" in options;
  if (checkVersion && hasDefault)
    throw new RangeError(
      `readZnodeLatest("${path}"): a znode that is not there has no version to check; leave out default or checkVersion`,
    );
  if (onUndecodable !== "fail" && onUndecodable !== "keep")
    throw new RangeError(
      `readZnodeLatest("${path}"): onUndecodable must be "fail" or "keep"; it is ${JSON.stringify(onUndecodable)}`,
    );
  const load = (znode: WatchedZnode | undefined): T => {
    if (znode !== undefined) return decoded(decode, path, znode);
    if (hasDefault) return options.default as T;
    throw new Error(`the znode ${path} does not exist; create it, or give readZnodeLatest a default`);
  };
  return new ZnodeParam(new FollowedZnode(path, { load, keepsLast: onUndecodable === "keep" }), checkVersion);
}

function decoded<T>(decoder: Decoder<T>, path: string, { data, version, mzxid }: WatchedZnode): T {
  try {
    return decoder.decode(Buffer.from(data), path);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new Error(
      `${path}: the value of version ${version} (${data.length} bytes, mzxid 0x${mzxid.toString(16)}) is not ${decoder.format}: ${why}. Write one that is.`,
      { cause: error },
    );
  }
}
