/** The errors by which a session ends requests: what happened, to which of them, and what the caller can do. */
import { formatServer, type ServerAddress } from "./connect-string";
import { Code } from "./error-codes";
import {
  ClosedError,
  ConnectionLossError,
  NotConnectedError,
  type Outcome,
  SessionExpiredError,
} from "./errors";
import type { Request } from "./request";

function outcomeOfSent(request: Request): Outcome {
  return request.isWrite ? "ambiguous" : "retryable";
}

export function closedBeforeReply(request: Request): ClosedError {
  const outcome = outcomeOfSent(request);
  return new ClosedError(
    `${request.description}: the client was closed before the reply came.${adviceFor(outcome)}`,
    outcome,
  );
}

export function connectionLoss(request: Request, reason: string): ConnectionLossError {
  const outcome = outcomeOfSent(request);
  const what = `the connection was lost before the reply came (the server ${reason})`;
  return new ConnectionLossError(
    `${request.description}: ${what}.${adviceFor(outcome)}`,
    outcome,
    Code.connectionLoss,
    request.path,
  );
}

function adviceFor(outcome: Outcome): string {
  return outcome === "ambiguous" ? " Find out before sending it again." : "";
}

export function sessionExpired(request: Request, isSent: boolean): SessionExpiredError {
  return new SessionExpiredError(
    `${request.description}: the session has expired.`,
    isSent ? outcomeOfSent(request) : "retryable",
    Code.sessionExpired,
    request.path,
  );
}

export function notConnected(
  waitedMs: number,
  servers: readonly ServerAddress[],
  failures: ReadonlyMap<string, string>,
): NotConnectedError {
  const tried = servers.map((server) => {
    const name = formatServer(server);
    return `${name} (${failures.get(name) ?? "no answer yet"})`;
  });
  return new NotConnectedError(
    `No ZooKeeper server could be reached within ${waitedMs} ms. Tried: ${tried.join(", ")}. ` +
      "Check that the connect string names your servers, that they run, and that this machine may reach them; " +
      "or raise connectTimeoutMs.",
    "retryable",
  );
}
