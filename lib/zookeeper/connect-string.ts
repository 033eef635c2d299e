import { InvalidArgumentError } from "./errors";
import { checkPath } from "./paths";

export interface ServerAddress {
  readonly host: string;
  readonly port: number;
}

export interface ConnectString {
  readonly servers: readonly ServerAddress[];
  /** The path that all paths are below, without a slash at its end; empty when there is none. */
  readonly chroot: string;
}

export const DEFAULT_PORT = 2181;
const MAX_PORT = 65_535;

function invalid(connectString: string, reason: string): InvalidArgumentError {
  return new InvalidArgumentError(
    `The connect string ${JSON.stringify(connectString)} is not valid: ${reason}. ` +
      "It looks like host1:2181,host2:2181 with an optional path behind it: host1:2181,host2:2181/app.",
    "terminal",
  );
}

/** host:port, host, [IPv6]:port or [IPv6] */
function parseServer(text: string, connectString: string): ServerAddress {
  const match = /^(?:\[([0-9a-fA-F:.%]+)\]|([^:[\]\s]+))(?::(\d{1,5}))?$/.exec(text.trim());
  if (!match)
    throw invalid(connectString, text.trim() ? `"${text.trim()}" is not host:port` : "a server is empty");
  const port = match[3] === undefined ? DEFAULT_PORT : Number(match[3]);
  if (port < 1 || port > MAX_PORT)
    throw invalid(connectString, `the port ${port} is not between 1 and ${MAX_PORT}`);
  return { host: (match[1] ?? match[2])!, port };
}

/** `h1:p1,h2:p2/chroot`: servers, and a path that all paths are below. */
export function parseConnectString(connectString: string): ConnectString {
  if (typeof connectString !== "string" || connectString.trim() === "") {
    throw invalid(String(connectString ?? ""), "it is empty");
  }
  const slash = connectString.indexOf("/");
  const serversText = slash < 0 ? connectString : connectString.slice(0, slash);
  const path = slash < 0 ? "" : connectString.slice(slash).trim();
  if (path.length > 1) {
    try {
      checkPath(path);
    } catch (error) {
      throw invalid(connectString, (error as Error).message);
    }
  }
  const servers = serversText.split(",").map((text) => parseServer(text, connectString));
  return { servers, chroot: path === "/" ? "" : path };
}

/** A copy in random order (Fisher and Yates), so that clients spread over the servers. */
export function shuffle<T>(items: readonly T[], random: () => number): T[] {
  const result = [...items];
  for (let last = result.length - 1; last > 0; last -= 1) {
    const other = Math.floor(random() * (last + 1));
    [result[last], result[other]] = [result[other]!, result[last]!];
  }
  return result;
}

export function formatServer(server: ServerAddress): string {
  return server.host.includes(":") ? `[${server.host}]:${server.port}` : `${server.host}:${server.port}`;
}
