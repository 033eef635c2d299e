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
export const Code = {
  ok: 0,
  runtimeInconsistency: -2,
  connectionLoss: -4,
  noNode: -101,
  noAuth: -102,
  badVersion: -103,
  noChildrenForEphemerals: -108,
  nodeExists: -110,
  notEmpty: -111,
  sessionExpired: -112,
  authFailed: -115,
  noWatcher: -121,
} as const;

interface KnownCode {
  readonly type: typeof ZooKeeperError;
  readonly text: string;
  /** `asSent`: retryable for a read, ambiguous for a write. */
  readonly outcome: Outcome | "asSent";
}

function plain(text: string, outcome: Outcome | "asSent" = "terminal"): KnownCode {
  return { type: ZooKeeperError, text, outcome };
}

const KNOWN_CODES: Readonly<Record<number, KnownCode>> = {
  [-1]: plain("the server had an internal error", "asSent"),
  [-2]: plain("another operation of the same multi failed"),
  [-3]: plain("the server found its data inconsistent", "asSent"),
  [-4]: { type: ConnectionLossError, text: "the connection was lost", outcome: "asSent" },
  [-5]: plain("the server could not decode the request"),
  [-6]: plain("the server does not know this operation; it is too old or has it switched off"),
  [-7]: plain("the operation timed out", "asSent"),
  [-8]: plain("the server refuses the arguments"),
  [-9]: plain("the server can't serve while its state is unknown", "retryable"),
  [-13]: plain("the new ensemble would have no quorum"),
  [-14]: plain("another reconfiguration is going on", "retryable"),
  [-101]: { type: NoNodeError, text: "there is no such znode", outcome: "terminal" },
  [-102]: { type: NoAuthError, text: "the znode's ACL does not allow it", outcome: "terminal" },
  [-103]: { type: BadVersionError, text: "the znode has another version", outcome: "terminal" },
  [-108]: {
    type: NoChildrenForEphemeralsError,
    text: "an ephemeral znode cannot have children",
    outcome: "terminal",
  },
  [-110]: { type: NodeExistsError, text: "the znode exists already", outcome: "terminal" },
  [-111]: { type: NotEmptyError, text: "the znode has children", outcome: "terminal" },
  [-112]: { type: SessionExpiredError, text: "the session has expired", outcome: "asSent" },
  [-114]: plain("the ACL is not valid"),
  [-115]: { type: AuthFailedError, text: "the server refuses the authentication", outcome: "terminal" },
  [-118]: plain("the session has moved to another server", "retryable"),
  [-119]: { type: NotReadOnlyError, text: "the server is read-only", outcome: "retryable" },
  [-120]: plain("a local session cannot create an ephemeral znode"),
  [-121]: { type: NoWatcherError, text: "there is no such watch", outcome: "terminal" },
  [-122]: plain("the request timed out in the server", "asSent"),
  [-123]: plain("the servers have reconfiguration switched off (reconfigEnabled)"),
  [-124]: plain("the server requires SASL authentication"),
  [-125]: plain("a quota would be exceeded"),
  [-127]: plain("the server is throttling; send again later", "retryable"),
};

/** The typed error of a server's code. What an unknown code means for a write can't be known. */
export function errorFromCode(
  code: number,
  operation: string,
  path: string | undefined,
  isWrite: boolean,
): ZooKeeperError {
  const known = KNOWN_CODES[code] ?? plain(`the server answered with error ${code}`, "asSent");
  const sent: Outcome = isWrite ? "ambiguous" : "retryable";
  const outcome = known.outcome === "asSent" ? sent : known.outcome;
  const target = path === undefined ? operation : `${operation} of ${path}`;
  return new known.type(`${target}: ${known.text} (${code})`, outcome, code, path);
}
