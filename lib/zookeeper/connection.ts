/** The only file with sockets: one connection to one server, from frames to bytes and back. */
import type { connect, LookupFunction, Socket } from "node:net";
import type * as tlsModule from "node:tls";
import { Deframer, type FrameListener } from "./codec/framing";
import type { ServerAddress } from "./connect-string";
import { InvalidArgumentError } from "./errors";
import type { Clock } from "./options";

/** Re-exported, so that this is the only file that knows of sockets. */
export type { LookupFunction } from "node:net";

const READ_BUFFER_BYTES = 64 * 1024;
const LONGEST_ANSWER_BYTES = 64 * 1024;

/** As node:tls has them; nothing is sent before the server's certificate is verified. */
export type TlsOptions = Pick<
  tlsModule.ConnectionOptions,
  "ca" | "cert" | "key" | "passphrase" | "pfx" | "servername" | "minVersion" | "rejectUnauthorized"
>;

/** TLS with its keys and certificates read once, for all connections. */
export type Tls = Omit<TlsOptions, "cert" | "key"> & { readonly secureContext: tlsModule.SecureContext };

/** Loaded with the first connection, and TLS where it is used: each takes longer to load than all of this client. */
function nodeNet(): { readonly connect: typeof connect } {
  return process.getBuiltinModule("node:net");
}

function nodeTls(): typeof tlsModule {
  return process.getBuiltinModule("node:tls");
}

/** Reads keys and certificates; rejects those that can't be read, rather than at every connection. */
export function prepareTls(options: TlsOptions): Tls {
  try {
    return { ...options, secureContext: nodeTls().createSecureContext(options) };
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    throw new InvalidArgumentError(
      `tls: a key or certificate can't be read (${code ?? message}). Give them as PEM text, or pfx with its passphrase.`,
      "terminal",
    );
  }
}

/** How a server is reached, the same for every one of them. */
export interface Transport {
  readonly tls: Tls | undefined;
  /** Asked anew for every connection, so a server may move to another address. */
  readonly lookup: LookupFunction;
  /** For one address of a name with several, in milliseconds; then the next is tried. */
  readonly addressTimeoutMs: number;
  readonly clock: Clock;
}

export interface ConnectionListener {
  opened(): void;
  /** Bytes have come; called before their frames. */
  received(): void;
  readonly frame: FrameListener;
  /** The connection broke: by the other side, by the network, or because a frame was malformed. Called once. */
  lost(reason: string): void;
}

/** Reads into one buffer spare an allocation for each; what outlives a read is copied. */
interface Reading {
  readonly buffer: Uint8Array;
  readonly callback: (size: number, buffer: Uint8Array) => boolean;
}

function open(server: ServerAddress, { tls, lookup, addressTimeoutMs }: Transport, onread?: Reading): Socket {
  const target = {
    host: server.host,
    port: server.port,
    lookup,
    autoSelectFamily: true,
    autoSelectFamilyAttemptTimeout: addressTimeoutMs,
  };
  if (!tls) return nodeNet().connect({ ...target, noDelay: true, onread });
  const socket = nodeTls().connect({ ...target, ...tls, onread } as tlsModule.ConnectionOptions);
  return socket.setNoDelay(true);
}

export class Connection {
  readonly #socket: Socket;
  /** Of this socket alone: half a frame from a broken connection must never meet the next one's bytes. */
  readonly #deframer: Deframer;
  #isOver = false;
  #lastError: string | undefined;

  constructor(
    server: ServerAddress,
    transport: Transport,
    private readonly listener: ConnectionListener,
  ) {
    this.#deframer = new Deframer((buffer, offset, end) => {
      if (!this.#isOver) listener.frame(buffer, offset, end);
    });
    const buffer = Buffer.allocUnsafeSlow(READ_BUFFER_BYTES);
    this.#socket = open(server, transport, { buffer, callback: this.#onRead });
    this.#socket.on(
      transport.tls ? "secureConnect" : "connect",
      () => void (this.#isOver || listener.opened()),
    );
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

/** A four-letter-word command over a connection of its own; undefined when there is no answer in time. */
export function ask(
  server: ServerAddress,
  transport: Transport,
  word: "isro" | "srvr" | "conf",
  timeoutMs: number,
): Promise<string | undefined> {
  return new Promise((done) => {
    let answer = "";
    const socket = open(server, transport);
    const timer = transport.clock.setTimeout(() => socket.destroy(), timeoutMs);
    socket.on(transport.tls ? "secureConnect" : "connect", () => socket.write(word));
    socket.on("data", (chunk) => {
      answer += chunk.toString("latin1");
      if (answer.length > LONGEST_ANSWER_BYTES) socket.destroy();
    });
    socket.on("error", () => undefined);
    socket.on("close", () => {
      transport.clock.clearTimeout(timer);
      done(answer === "" ? undefined : answer);
    });
  });
}
