import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { describe } from "./terminal";

/** What the endpoint tells, asked anew for each request. */
export interface Health {
  /** Why the process is not ready; none where it is. */
  readonly problems: () => readonly string[];
  /** In Prometheus's text format. */
  readonly metrics: () => string;
}

export interface HealthEndpoint {
  /** http://host:port, without a path. */
  readonly url: string;
  /** Never rejects. */
  close(): Promise<void>;
}

interface Answer {
  readonly status: 200 | 404 | 405 | 503;
  readonly body: string;
  readonly type?: string;
}

const PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8";
const MAX_PORT = 65_535;

/** GET /live, /ready, /metrics. */
export function answerHealth(method: string | undefined, path: string | undefined, health: Health): Answer {
  if (method !== "GET" && method !== "HEAD") return { status: 405, body: "only GET\n" };
  if (path === "/live") return { status: 200, body: "live\n" };
  if (path === "/metrics") return { status: 200, body: health.metrics(), type: PROMETHEUS };
  if (path !== "/ready") return { status: 404, body: "/live, /ready and /metrics are here\n" };
  const problems = health.problems();
  if (problems.length === 0) return { status: 200, body: "ready\n" };
  return { status: 503, body: problems.map((problem) => `${problem}\n`).join("") };
}

/** Serves it; port 0 is any that is free. Rejects with HealthEndpointError where the address can't be had. */
export async function serveHealth(
  { host, port }: { readonly host: string; readonly port: number },
  health: Health,
): Promise<HealthEndpoint> {
  const server = createServer((request, response) => {
    const {
      status,
      body,
      type = "text/plain; charset=utf-8",
    } = answerHealth(request.method, request.url?.split("?")[0], health);
    response.writeHead(status, { "content-type": type, "cache-control": "no-store" }).end(body);
  });
  await new Promise<void>((done, fail) => {
    server.once("error", (error) => fail(new HealthEndpointError(host, port, error)));
    server.listen(port, host, done);
  });
  const address = server.address() as AddressInfo;
  const shown = address.family === "IPv6" ? `[${address.address}]` : address.address;
  return {
    url: `http://${shown}:${address.port}`,
    close: () =>
      new Promise((done) => {
        server.close(() => done());
        server.closeAllConnections();
      }),
  };
}

/** A port from 0 on; undefined where the text is none. */
export function portOf(text: string): number | undefined {
  const port = /^\d{1,5}$/.test(text) ? Number(text) : Number.NaN;
  return port <= MAX_PORT ? port : undefined;
}

/** The address is taken, or is none of this machine's. */
export class HealthEndpointError extends Error {
  override readonly name = "HealthEndpointError";
  constructor(host: string, port: number, cause: Error) {
    super(
      `the health endpoint can't be served at ${host}:${port}: ${describe(cause)}; choose another --health PORT, or 0`,
      {
        cause,
      },
    );
  }
}
