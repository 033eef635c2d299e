import { type JuteReader, MalformedFrameError } from "./codec/jute";
import { formatServer, type ServerAddress } from "./connect-string";
import type { Pipeline } from "./pipeline";
import { type ConnectResponse, readConnectResponse, writeConnectRequest } from "./records";
import { NO_SESSION, type SessionIdentity } from "./session";

/** A server refuses a handshake by hanging up, without a word. */
export const REFUSED_HANDSHAKE =
  "refused the handshake: it is not serving, is behind what this client has seen, " +
  "or has maxClientCnxns connections from this address";

const REPLY_HEADER_BYTES = 16;
const ERROR_BYTES = 4;

export interface HandshakeParts {
  readonly pipeline: Pipeline;
  readonly canBeReadOnly: boolean;
  readonly lastZxid: () => bigint;
  /** Whether a server takes writes: its answer to `isro`. */
  readonly askMode: (server: ServerAddress) => Promise<string | undefined>;
  /** Why servers failed when they were tried last. */
  readonly failures: ReadonlyMap<string, string>;
}

/** The first exchange of a connection: which session it is for. */
export class Handshake {
  /** It asked for a session of the server's own, though there is one of the ensemble. */
  #isLocal = false;

  constructor(private readonly parts: HandshakeParts) {}

  /** `isCurrent`: the connection that it is for is still there, and still waits for it. */
  send(
    server: ServerAddress,
    identity: SessionIdentity,
    sessionTimeoutMs: number,
    isCurrent: () => boolean,
  ): void {
    const { canBeReadOnly, failures } = this.parts;
    const hasSession = identity.id !== NO_SESSION.id;
    const wasRefused = failures.get(formatServer(server)) === REFUSED_HANDSHAKE;
    this.#isLocal = false;
    if (canBeReadOnly && hasSession && wasRefused) {
      void this.#sendByMode(server, identity, sessionTimeoutMs, isCurrent);
    } else {
      this.#write(identity, sessionTimeoutMs);
    }
  }

  read(reader: JuteReader): ConnectResponse {
    if (reader.remaining === REPLY_HEADER_BYTES) {
      // A server without a quorum whose ensemble has no local sessions answers as if to a request.
      reader.skip(REPLY_HEADER_BYTES - ERROR_BYTES);
      throw new MalformedFrameError(`refused the handshake with error ${reader.int()}`);
    }
    const response = readConnectResponse(reader);
    if (this.#isLocal && !response.isReadOnly) {
      // It has found its quorum since it was asked: a new session there must not replace ours.
      throw new MalformedFrameError("takes writes again");
    }
    return response;
  }

  /**
   * A server without a quorum knows no session of the ensemble, and hangs up on one. It gets a handshake for a session
   * of its own; the ensemble's is kept for a server that knows it.
   */
  async #sendByMode(
    server: ServerAddress,
    identity: SessionIdentity,
    sessionTimeoutMs: number,
    isCurrent: () => boolean,
  ): Promise<void> {
    const mode = await this.parts.askMode(server);
    if (!isCurrent()) return;
    this.#isLocal = mode === "ro";
    this.#write(this.#isLocal ? NO_SESSION : identity, sessionTimeoutMs);
  }

  #write(identity: SessionIdentity, sessionTimeoutMs: number): void {
    const request = {
      lastZxidSeen: this.parts.lastZxid(),
      sessionTimeoutMs,
      sessionId: identity.id,
      password: identity.password,
      canBeReadOnly: this.parts.canBeReadOnly,
    };
    this.parts.pipeline.sendFrame((writer) => writeConnectRequest(writer, request));
  }
}
