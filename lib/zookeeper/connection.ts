/** The only file with sockets: one connection to one server, from frames to bytes and back. */
import { connect, type Socket } from "node:net";
import { Deframer, type FrameListener } from "./codec/framing";
import type { ServerAddress } from "./connect-string";

const READ_BUFFER_BYTES = 64 * 1024;

export interface ConnectionListener {
  opened(): void;
  /** Bytes have come; called before their frames. */
  received(): void;
  readonly frame: FrameListener;
  /** The connection broke: by the other side, by the network, or because a frame was malformed. Called once. */
  lost(reason: string): void;
}

export class Connection {
  readonly #socket: Socket;
  /** Of this socket alone: half a frame from a broken connection must never meet the next one's bytes. */
  readonly #deframer: Deframer;
  #isOver = false;
  #lastError: string | undefined;

  constructor(
    server: ServerAddress,
    private readonly listener: ConnectionListener,
  ) {
    this.#deframer = new Deframer((buffer, offset, end) => {
      if (!this.#isOver) listener.frame(buffer, offset, end);
    });
    this.#socket = connect({
      host: server.host,
      port: server.port,
      noDelay: true,
      // One buffer for all reads spares an allocation for each; what outlives a read is copied.
      onread: { buffer: Buffer.allocUnsafeSlow(READ_BUFFER_BYTES), callback: this.#onRead },
    });
    this.#socket.on("connect", () => this.#isOver || listener.opened());
    this.#socket.on("error", (error: NodeJS.ErrnoException) => {
      this.#lastError = error.code ?? error.message;
    });
    this.#socket.on("close", () => this.#fail(this.#lastError ?? "closed the connection"));
  }

  readonly #onRead = (size: number, buffer: Uint8Array): boolean => {
    if (this.#isOver) return true;
    this.listener.received();
    try {
      this.#deframer.push((buffer as Buffer).subarray(0, size));
    } catch (error) {
      this.#fail((error as Error).message);
    }
    return true;
  };

  /** Sends bytes; true when the kernel has taken them, so that their buffer may be used again. */
  write(bytes: Buffer): boolean {
    if (this.#isOver) return true;
    this.#socket.write(bytes);
    return this.#socket.writableLength === 0;
  }

  /** Ends the connection without a word to the listener. */
  destroy(): void {
    this.#isOver = true;
    this.#socket.destroy();
  }

  #fail(reason: string): void {
    if (this.#isOver) return;
    this.destroy();
    this.listener.lost(reason);
  }
}
