/**
 * What a caller can do about a failure.
 * - `retryable`: nothing happened; the same call may be sent again.
 * - `terminal`: nothing happened, and the same call would fail again.
 * - `ambiguous`: it may or may not have happened; find out before doing it again.
 */
export type Outcome = "retryable" | "terminal" | "ambiguous";

/** Every error that the client raises. `code` is the server's (KeeperException.Code), or a name of ours in `name`. */
export class ZooKeeperError extends Error {
  override readonly name: string = "ZooKeeperError";
  /** The zxid in the header of the reply that brought this error: the server had applied everything up to it. */
  zxid: bigint | undefined = undefined;
  constructor(
    message: string,
    readonly outcome: Outcome,
    readonly code: number | undefined = undefined,
    readonly path: string | undefined = undefined,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

/** -101: the znode, or the parent of a create, does not exist. */
export class NoNodeError extends ZooKeeperError {
  override readonly name = "NoNodeError";
}
/** -103: the version given is not the znode's. */
export class BadVersionError extends ZooKeeperError {
  override readonly name = "BadVersionError";
}
/** -110: a create of a path that exists. */
export class NodeExistsError extends ZooKeeperError {
  override readonly name = "NodeExistsError";
}
/** -111: a delete of a znode that has children. */
export class NotEmptyError extends ZooKeeperError {
  override readonly name = "NotEmptyError";
}
/** -108: an ephemeral cannot have children. */
export class NoChildrenForEphemeralsError extends ZooKeeperError {
  override readonly name = "NoChildrenForEphemeralsError";
}
/** -102: the ACL does not allow it. */
export class NoAuthError extends ZooKeeperError {
  override readonly name = "NoAuthError";
}
/** -115: the server refuses the credentials or does not know the scheme. The client closes: no retry helps. */
export class AuthFailedError extends ZooKeeperError {
  override readonly name = "AuthFailedError";
}
/** -4: the request was sent and its reply was lost. Ambiguous for writes, retryable for reads. */
export class ConnectionLossError extends ZooKeeperError {
  override readonly name = "ConnectionLossError";
}
/** -112: the session is gone. Ambiguous for a write that had been sent, retryable otherwise. */
export class SessionExpiredError extends ZooKeeperError {
  override readonly name = "SessionExpiredError";
}
/** No server could be reached in time; the request was never sent. */
export class NotConnectedError extends ZooKeeperError {
  override readonly name = "NotConnectedError";
}
/** The client was closed. Ambiguous for a write that had been sent. */
export class ClosedError extends ZooKeeperError {
  override readonly name = "ClosedError";
}
/** The call's signal was aborted; `cause` is its reason. Ambiguous for a write that had been sent. */
export class AbortError extends ZooKeeperError {
  override readonly name = "AbortError";
}
/** The call's `timeoutMs` passed. Ambiguous for a write that had been sent. */
export class OperationTimeoutError extends ZooKeeperError {
  override readonly name = "OperationTimeoutError";
}
/** More bytes wait to be sent than `maxQueuedBytes`; the request was never sent. Wait for earlier calls first. */
export class QueueFullError extends ZooKeeperError {
  override readonly name = "QueueFullError";
}
/** -121: there is no such watch to remove. */
export class NoWatcherError extends ZooKeeperError {
  override readonly name = "NoWatcherError";
}
/** -119: the server in use has no quorum and takes reads only. */
export class NotReadOnlyError extends ZooKeeperError {
  override readonly name = "NotReadOnlyError";
}
/** A path, connect string, option or request that cannot be valid; nothing was sent. */
export class InvalidArgumentError extends ZooKeeperError {
  override readonly name = "InvalidArgumentError";
}
/** A multi that was refused as a whole: `index` is the operation that failed and `cause` its error. */
export class MultiError extends ZooKeeperError {
  override readonly name = "MultiError";
  constructor(
    message: string,
    readonly index: number,
    override readonly cause: ZooKeeperError,
  ) {
    super(message, cause.outcome, cause.code, cause.path, { cause });
  }
}
