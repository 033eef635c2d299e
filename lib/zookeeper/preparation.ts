import { AuthFailedError, type ZooKeeperError } from "./errors";
import type { Authentication } from "./options";
import type { Pipeline } from "./pipeline";
import { OpCode, Xid } from "./records";
import { Request, type RequestArguments } from "./request";
import { DigestMd5, type Sasl } from "./sasl";
import type { WatchRegistry } from "./watches";

export interface PreparationParts {
  readonly pipeline: Pipeline;
  readonly watches: WatchRegistry;
  readonly sasl: Sasl | undefined;
  /** Those that every new connection starts with; `addAuth` makes it longer. */
  readonly authentications: readonly Authentication[];
  /** The greatest request that the server accepts. */
  readonly maxRequestBytes: number;
  readonly onDone: () => void;
  readonly onFailure: (error: ZooKeeperError) => void;
}

/**
 * What a new connection begins with, before any request of a user: SASL, authentication, then the watches, for
 * each relies on the one before. A connection that breaks meanwhile rejects what was sent, and nothing follows.
 */
export class Preparation {
  constructor(private readonly parts: PreparationParts) {}

  /** `relativeZxid`: one-shot watches of what has changed since then fire. */
  begin(relativeZxid: bigint): void {
    const { sasl } = this.parts;
    if (sasl) this.#authenticateBySasl(new DigestMd5(sasl), () => this.#authenticateAndArm(relativeZxid));
    else this.#authenticateAndArm(relativeZxid);
  }

  #authenticateBySasl(digest: DigestMd5, onDone: () => void): void {
    this.#send(OpCode.sasl, { data: digest.initial }, (challenge) =>
      this.#guarded(() =>
        this.#send(OpCode.sasl, { data: digest.respond(challenge) }, (reply) =>
          this.#guarded(() => {
            digest.verify(reply);
            onDone();
          }),
        ),
      ),
    );
  }

  #authenticateAndArm(relativeZxid: bigint): void {
    const { authentications, watches, maxRequestBytes, onDone } = this.parts;
    let unconfirmed = 1;
    const confirm = () => {
      unconfirmed -= 1;
      if (unconfirmed === 0) onDone();
    };
    for (const { scheme, auth } of authentications) {
      unconfirmed += 1;
      this.#send(OpCode.auth, { scheme, data: Buffer.from(auth as string) }, confirm, Xid.auth);
    }
    for (const request of watches.rearming(relativeZxid, maxRequestBytes)) {
      unconfirmed += 1;
      const isPersistent = request.persistent.length + request.persistentRecursive.length > 0;
      // Servers before 3.6 know the first one only.
      const opcode = isPersistent ? OpCode.setWatches2 : OpCode.setWatches;
      this.#send(opcode, { watches: request }, confirm, Xid.setWatches);
    }
    confirm();
  }

  #guarded(step: () => void): void {
    try {
      step();
    } catch (error) {
      if (!(error instanceof AuthFailedError)) throw error;
      this.parts.onFailure(error);
    }
  }

  #send(opcode: number, args: RequestArguments, onDone: (reply: Buffer) => void, xid?: number): void {
    this.parts.pipeline.sendNow(new Request(opcode, "", args, onDone, this.parts.onFailure), xid);
  }
}
