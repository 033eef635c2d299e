import type { Decoder } from "../decode";
import { namesBelow } from "./fields";

/**
 * A URL in Dubbo's registry. All of it is in the znode's name, percent-encoded, so that it is known of a deletion,
 * too: `/<group>/<service>/<category>/<URL>`. Source of the form: Dubbo's ZookeeperRegistry, URL.toFullString.
 */
export interface DubboUrl {
  readonly service: string;
  readonly category: "providers" | "consumers" | "configurators" | "routers" | string;
  /** `dubbo`, `tri`, `consumer`, `override`, ... */
  readonly protocol: string;
  readonly host: string;
  readonly port: number | undefined;
  /** The interface, as the URL's path says. */
  readonly path: string;
  readonly parameters: Readonly<Record<string, string>>;
}

/** The URL of a znode below the registry's group; undefined for the folders above. Throws where the name is no URL. */
export function dubboUrl(path: string, group = "/dubbo"): DubboUrl | undefined {
  const [service, category, name, ...deeper] = namesBelow(path, group) ?? [];
  if (service === undefined || category === undefined || name === undefined || deeper.length > 0)
    return undefined;
  const text = decodeURIComponent(name);
  const [, protocol, authority, rest = ""] = /^([a-z][\w+.-]*):\/\/([^/?]*)(.*)$/i.exec(text) ?? [];
  if (protocol === undefined || authority === undefined)
    throw new TypeError(`the znode's name is not a URL: ${text}`);
  const [urlPath = "", query = ""] = rest.split(/\?(.*)/s);
  const [, host = "", port] = /^(?:[^@]*@)?(.*?)(?::(\d+))?$/.exec(authority) ?? [];
  return {
    service: decodeURIComponent(service),
    category,
    protocol,
    host,
    port: port === undefined ? undefined : Number(port),
    path: urlPath.replace(/^\//, ""),
    parameters: Object.fromEntries(new URLSearchParams(query)),
  };
}

/** The URLs of a registry, and null for the folders above them. Of a deletion, ask {@link dubboUrl}. */
export function dubbo(group = "/dubbo"): Decoder<DubboUrl | null> {
  return { format: "a URL of Dubbo's", decode: (_, path) => dubboUrl(path, group) ?? null };
}
