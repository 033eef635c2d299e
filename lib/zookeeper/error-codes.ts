import {
  AuthFailedError,
  BadVersionError,
  ConnectionLossError,
  NoAuthError,
  NoChildrenForEphemeralsError,
  NodeExistsError,
  NoNodeError,
  NotEmptyError,
  NotReadOnlyError,
  NoWatcherError,
  type Outcome,
  SessionExpiredError,
  ZooKeeperError,
} from "./errors";

/** KeeperException.Code */
export enum Code {
  ok = 0,
  runtimeInconsistency = -2,
  connectionLoss = -4,
  noNode = -101,
  noAuth = -102,
  badVersion = -103,
  noChildrenForEphemerals = -108,
  nodeExists = -110,
  notEmpty = -111,
  sessionExpired = -112,
  authFailed = -115,
  noWatcher = -121,
}

interface KnownCode {
  readonly type: typeof ZooKeeperError;
  readonly text: string;
  /** `asSent`: retryable for a read, ambiguous for a write. */
  readonly outcome: Outcome | "asSent";
}

function plain(text: string, outcome: Outcome | "asSent" = "terminal"): KnownCode {
  return { type: ZooKeeperError, text, outcome };
}

/** A switch, and not a table: it is compiled with the first error, and costs nothing when the client is loaded. */
function kindOf(code: number): KnownCode {
  switch (code) {
    case -1:
      return plain("the server had an internal error", "asSent");
    case -2:
      return plain("another operation of the same multi failed");
    case -3:
      return plain("the server found its data inconsistent", "asSent");
    case -4:
      return { type: ConnectionLossError, text: "the connection was lost", outcome: "asSent" };
    case -5:
      return plain("the server could not decode the request");
    case -6:
      return plain("the server does not know this operation; it is too old or has it switched off");
    case -7:
      return plain("the operation timed out", "asSent");
    case -8:
      return plain("the server refuses the arguments");
    case -9:
      return plain("the server can't serve while its state is unknown", "retryable");
    case -13:
      return plain("the new ensemble would have no quorum");
    case -14:
      return plain("another reconfiguration is going on", "retryable");
    case -101:
      return { type: NoNodeError, text: "there is no such znode", outcome: "terminal" };
    case -102:
      return { type: NoAuthError, text: "the znode's ACL does not allow it", outcome: "terminal" };
    case -103:
      return { type: BadVersionError, text: "the znode has another version", outcome: "terminal" };
    case -108:
      return {
        type: NoChildrenForEphemeralsError,
        text: "an ephemeral znode cannot have children",
        outcome: "terminal",
      };
    case -110:
      return { type: NodeExistsError, text: "the znode exists already", outcome: "terminal" };
    case -111:
      return { type: NotEmptyError, text: "the znode has children", outcome: "terminal" };
    case -112:
      return { type: SessionExpiredError, text: "the session has expired", outcome: "asSent" };
    case -114:
      return plain("the ACL is not valid");
    case -115:
      return { type: AuthFailedError, text: "the server refuses the authentication", outcome: "terminal" };
    case -118:
      return plain("the session has moved to another server", "retryable");
    case -119:
      return { type: NotReadOnlyError, text: "the server is read-only", outcome: "retryable" };
    case -120:
      return plain("a local session cannot create an ephemeral znode");
    case -121:
      return { type: NoWatcherError, text: "there is no such watch", outcome: "terminal" };
    case -122:
      return plain("the request timed out in the server", "asSent");
    case -123:
      return plain("the servers have reconfiguration switched off (reconfigEnabled)");
    case -124:
      return plain("the server requires SASL authentication");
    case -125:
      return plain("a quota would be exceeded");
    case -127:
      return plain("the server is throttling; send again later", "retryable");
    default:
      return plain(`the server answered with error ${code}`, "asSent");
  }
}

/** The typed error of a server's code. What an unknown code means for a write can't be known. */
export function errorFromCode(
  code: number,
  operation: string,
  path: string | undefined,
  isWrite: boolean,
): ZooKeeperError {
  const { type, text, outcome: known } = kindOf(code);
  const sent: Outcome = isWrite ? "ambiguous" : "retryable";
  const outcome = known === "asSent" ? sent : known;
  const target = path === undefined ? operation : `${operation} of ${path}`;
  return new type(`${target}: ${text} (${code})`, outcome, code, path);
}
