/** A TCP proxy on loopback that breaks connections in the ways in which networks do. */
import { connect, createServer, type Server, type Socket } from "node:net";

export type Direction = "toServer" | "toClient";

interface Pair {
  readonly client: Socket;
  readonly server: Socket;
  splitting: Promise<void>;
}

type Rewriter = (chunk: Buffer) => Buffer;

export class TcpProxy {
  /** host:port that clients connect to. */
  address = "";
  /** Connections accepted so far. */
  accepted = 0;
  readonly #pairs = new Set<Pair>();
  readonly #stalled = new Set<Direction>();
  #delayMs = 0;
  #isRefusing = false;
  #isDroppingReplies = false;
  #isSplitting = false;
  #limit = Number.POSITIVE_INFINITY;
  #rewriter: Rewriter = (chunk) => chunk;
  #server: Server | undefined;

  private constructor(
    private readonly host: string,
    private readonly port: number,
  ) {}

  /** Listens on a free port, and forwards to `host:port`. */
  static async start(target: string): Promise<TcpProxy> {
    const [host, port] = target.split(":");
    const proxy = new TcpProxy(host!, Number(port));
    await proxy.#listen();
    return proxy;
  }

  get connections(): number {
    return this.#pairs.size;
  }

  /** Breaks all connections; new ones are accepted. */
  cut(): void {
    this.#isDroppingReplies = false;
    for (const { client, server } of this.#pairs) {
      client.resetAndDestroy();
      server.destroy();
    }
    this.#pairs.clear();
  }

  /** Holds bytes of one direction back, of connections to come as well, without closing anything. */
  stall(direction: Direction): void {
    this.#stalled.add(direction);
    for (const pair of this.#pairs) sourceOf(pair, direction).pause();
  }

  /** Lets all directions flow again, with what was held back. */
  resume(): void {
    this.#stalled.clear();
    for (const { client, server } of this.#pairs) {
      client.resume();
      server.resume();
    }
  }

  /** Swallows what the servers send, until `cut` (or for good). Connections made after a cut are whole. */
  dropReplies(): void {
    this.#isDroppingReplies = true;
  }

  /** Lets `bytes` more bytes through to the clients, and then cuts. */
  cutAfter(bytes: number): void {
    this.#limit = bytes;
  }

  /** Sends each byte towards the clients on its own. */
  splitBytes(isSplitting: boolean): void {
    this.#isSplitting = isSplitting;
  }

  /** Holds what goes either way back for so long, in order. */
  delay(delayMs: number): void {
    this.#delayMs = delayMs;
  }

  /** Closes connections as they come. */
  refuse(isRefusing: boolean): void {
    this.#isRefusing = isRefusing;
  }

  /** Changes the bytes towards the clients. */
  rewrite(rewriter: Rewriter): void {
    this.#rewriter = rewriter;
  }

  async stop(): Promise<void> {
    this.cut();
    await new Promise<void>((done) => (this.#server ? this.#server.close(() => done()) : done()));
  }

  async #listen(): Promise<void> {
    const server = createServer((client) => this.#accept(client));
    this.#server = server;
    await new Promise<void>((done, fail) => server.once("error", fail).listen(0, "127.0.0.1", done));
    this.address = `127.0.0.1:${(server.address() as { port: number }).port}`;
  }

  #accept(client: Socket): void {
    this.accepted += 1;
    if (this.#isRefusing) {
      client.resetAndDestroy();
      return;
    }
    const server = connect({ host: this.host, port: this.port, noDelay: true });
    const pair: Pair = { client, server, splitting: Promise.resolve() };
    client.setNoDelay(true);
    this.#pairs.add(pair);
    this.#link(pair);
  }

  #link(pair: Pair): void {
    const { client, server } = pair;
    for (const socket of [client, server]) {
      socket.on("error", () => undefined);
      socket.on("close", () => {
        this.#pairs.delete(pair);
        client.destroy();
        server.destroy();
      });
    }
    client.on("data", (chunk) => this.#later(() => server.write(chunk)));
    server.on("data", (chunk) => this.#later(() => this.#toClient(pair, this.#rewriter(chunk))));
    for (const direction of this.#stalled) sourceOf(pair, direction).pause();
  }

  #later(act: () => void): void {
    if (this.#delayMs === 0) act();
    else setTimeout(act, this.#delayMs);
  }

  #toClient(pair: Pair, chunk: Buffer): void {
    if (this.#isDroppingReplies) return;
    const isLast = chunk.length >= this.#limit;
    const bytes = isLast ? chunk.subarray(0, this.#limit) : chunk;
    this.#limit -= bytes.length;
    if (!isLast) {
      this.#write(pair, bytes);
      return;
    }
    this.#limit = Number.POSITIVE_INFINITY;
    pair.client.end(bytes);
    pair.server.destroy();
  }

  #write(pair: Pair, bytes: Buffer): void {
    if (this.#isSplitting) pair.splitting = pair.splitting.then(() => writeBytewise(pair.client, bytes));
    else pair.client.write(bytes);
  }
}

/** A turn of the event loop after each byte, else the kernel would join them again. */
async function writeBytewise(socket: Socket, bytes: Buffer): Promise<void> {
  for (let index = 0; index < bytes.length && !socket.destroyed; index += 1) {
    socket.write(bytes.subarray(index, index + 1));
    await new Promise((done) => setImmediate(done));
  }
}

function sourceOf(pair: Pair, direction: Direction): Socket {
  return direction === "toServer" ? pair.client : pair.server;
}
