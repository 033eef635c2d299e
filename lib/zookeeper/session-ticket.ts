import { InvalidArgumentError } from "./errors";
import type { SessionIdentity } from "./session";

/** node:util's inspect.custom. */
const INSPECT = Symbol.for("nodejs.util.inspect.custom");
const FORMAT_VERSION = 1;
const HEADER_BYTES = 1 + 8 + 8 + 4;

/**
 * A session that is handed over to another process, with all its ephemerals. Who holds it owns the session, so
 * it shows itself nowhere: not when inspected, not as JSON. `toBytes` gives what `fromBytes` reads; keep them as
 * you would keep a password, and no longer than the session's timeout.
 */
export class SessionTicket {
  readonly #identity: SessionIdentity;
  readonly #lastZxid: bigint;
  readonly #timeoutMs: number;

  private constructor(identity: SessionIdentity, lastZxid: bigint, timeoutMs: number) {
    this.#identity = identity;
    this.#lastZxid = lastZxid;
    this.#timeoutMs = timeoutMs;
  }

  /** How long the session lives without a client, in milliseconds. */
  get timeoutMs(): number {
    return this.#timeoutMs;
  }

  static of(identity: SessionIdentity, lastZxid: bigint, timeoutMs: number): SessionTicket {
    return new SessionTicket(identity, lastZxid, timeoutMs);
  }

  static fromBytes(bytes: Uint8Array): SessionTicket {
    const buffer = Buffer.from(bytes);
    if (buffer.length <= HEADER_BYTES || buffer[0] !== FORMAT_VERSION) {
      throw new InvalidArgumentError("These bytes are no session ticket of this version.", "terminal");
    }
    const identity = { id: buffer.readBigInt64BE(1), password: buffer.subarray(HEADER_BYTES) };
    return new SessionTicket(identity, buffer.readBigInt64BE(9), buffer.readInt32BE(17));
  }

  /** byte version, long id, long lastZxid, int timeoutMs, the password */
  toBytes(): Buffer {
    const buffer = Buffer.alloc(HEADER_BYTES + this.#identity.password.length);
    buffer[0] = FORMAT_VERSION;
    buffer.writeBigInt64BE(this.#identity.id, 1);
    buffer.writeBigInt64BE(this.#lastZxid, 9);
    buffer.writeInt32BE(this.#timeoutMs, 17);
    buffer.set(this.#identity.password, HEADER_BYTES);
    return buffer;
  }

  /** For the client alone. */
  static open(ticket: SessionTicket): { identity: SessionIdentity; lastZxid: bigint } {
    return { identity: ticket.#identity, lastZxid: ticket.#lastZxid };
  }

  toJSON(): string {
    return "[SessionTicket]";
  }

  [INSPECT](): string {
    return "SessionTicket {}";
  }
}
