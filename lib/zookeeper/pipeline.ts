import { type JuteReader, JuteWriter, MalformedFrameError } from "./codec/jute";
import { ConnectionLossError, InvalidArgumentError, QueueFullError, ZooKeeperError } from "./errors";
import { Fifo } from "./fifo";
import { OpCode, writeRequestHeader, Xid } from "./records";
import type { Request } from "./request";

/** Xids of requests run from 1 to the greatest int32 and start again: negative ones have meanings of their own. */
const MAX_XID = 2 ** 31 - 1;

export interface PipelineOptions {
  /** Requests that may be unanswered at a time; more wait. */
  readonly maxInFlight: number;
  /** Bytes of requests that may be unanswered at a time; more wait. One request always goes. */
  readonly maxInFlightBytes: number;
  /** Bytes that may wait; what would be more is rejected. */
  readonly maxQueuedBytes: number;
  /** The greatest request that the server accepts. */
  readonly maxRequestBytes: number;
  /** Sends bytes; true when they were copied, so that their buffer may be used again. */
  readonly send: (bytes: Buffer) => boolean;
  /** The number of the first request (default: 1). */
  readonly firstXid?: number;
}

/**
 * The way of requests to the server and of replies back. The server answers in order, so a reply belongs to the
 * oldest request in flight; its xid is an assertion, not a key.
 */
export class Pipeline {
  readonly #queue = new Fifo<Request>();
  readonly #inFlight = new Fifo<Request>();
  /** Authentication is answered past the order, when it arrives, so it has an order of its own. */
  readonly #authentications = new Fifo<Request>();
  readonly #writer = new JuteWriter();
  #inFlightBytes = 0;
  #queuedBytes = 0;
  #nextXid: number;
  #isOpen = false;
  #isFlushScheduled = false;

  constructor(private readonly options: PipelineOptions) {
    this.#nextXid = options.firstXid ?? 1;
  }

  get inFlightCount(): number {
    return this.#inFlight.size;
  }

  /** Since when the oldest request waits; undefined when none does. */
  get oldestWaitingSinceMs(): number | undefined {
    return this.#queue.peek()?.waitingSinceMs;
  }

  /** Sends a request now or when its turn comes. */
  submit(request: Request): void {
    if (this.#queue.size === 0 && this.#hasRoom()) this.#send(request);
    else this.#enqueue(request);
  }

  /** Lets queued requests through. */
  open(): void {
    this.#isOpen = true;
    this.#pump();
  }

  /** Sends a request of the client's own past the queue. */
  sendNow(request: Request, xid: number = this.#takeXid()): void {
    this.#transmit(request, xid);
  }

  sendPing(): void {
    const frame = this.#writer.beginFrame();
    writeRequestHeader(this.#writer, Xid.ping, OpCode.ping);
    this.#writer.endFrame(frame);
    this.#scheduleFlush();
  }

  /** Sends a frame that is no request: the handshake. */
  sendFrame(write: (writer: JuteWriter) => void): void {
    const frame = this.#writer.beginFrame();
    write(this.#writer);
    this.#writer.endFrame(frame);
    this.#scheduleFlush();
  }

  /** Gives the reply, whose header was read, to the oldest request in flight. */
  settle(xid: number, zxid: bigint, code: number, reader: JuteReader): void {
    const isAuthentication = xid === Xid.auth;
    const request = isAuthentication ? this.#authentications.shift() : this.#inFlight.shift();
    if (!request || request.xid !== xid) {
      const expected = request ? `xid ${request.xid}` : "no reply";
      if (request) this.#rejectUnreadable(request);
      throw new MalformedFrameError(
        `The server's replies are out of order: xid ${xid} came, ${expected} was due.`,
      );
    }
    if (!isAuthentication) this.#inFlightBytes -= request.bytes;
    try {
      request.settle(code, zxid, reader);
    } catch (error) {
      this.#rejectUnreadable(request);
      throw error;
    }
    this.#pump();
  }

  /** The connection is gone: nothing is sent until `open`, and what was sent is rejected. */
  failInFlight(errorOf: (request: Request) => ZooKeeperError): void {
    this.#isOpen = false;
    // Bytes of the old connection that were not sent yet must not reach the new one.
    this.#writer.take();
    this.#inFlightBytes = 0;
    for (const request of this.#authentications.drain()) request.reject(errorOf(request));
    for (const request of this.#inFlight.drain()) request.reject(errorOf(request));
  }

  /** Rejects everything that waits. */
  failQueued(errorOf: (request: Request) => ZooKeeperError): void {
    this.#queuedBytes = 0;
    for (const request of this.#queue.drain()) request.reject(errorOf(request));
  }

  /** Rejects what has waited since a time or longer. */
  failWaitingSince(sinceMs: number, errorOf: (request: Request) => ZooKeeperError): void {
    for (let oldest = this.#queue.peek(); oldest; oldest = this.#queue.peek()) {
      if (oldest.waitingSinceMs > sinceMs) return;
      this.#dequeue().reject(errorOf(oldest));
    }
  }

  #takeXid(): number {
    const xid = this.#nextXid;
    this.#nextXid = xid === MAX_XID ? 1 : xid + 1;
    return xid;
  }

  #pump(): void {
    while (this.#queue.size > 0 && this.#hasRoom()) {
      const request = this.#dequeue();
      if (!request.isOver) this.#send(request);
    }
  }

  #hasRoom(): boolean {
    return (
      this.#isOpen &&
      this.#inFlight.size < this.options.maxInFlight &&
      this.#inFlightBytes < this.options.maxInFlightBytes
    );
  }

  #enqueue(request: Request): void {
    request.queuedBytes = request.weight;
    const bytes = this.#queuedBytes + request.queuedBytes;
    if (bytes > this.options.maxQueuedBytes && this.#queue.size > 0) {
      request.reject(this.#queueFull(request));
      return;
    }
    this.#queuedBytes = bytes;
    this.#queue.push(request);
  }

  #dequeue(): Request {
    const request = this.#queue.shift()!;
    this.#queuedBytes -= request.queuedBytes;
    return request;
  }

  #queueFull(request: Request): QueueFullError {
    return new QueueFullError(
      `${request.description}: ${this.#queuedBytes} bytes wait to be sent, and maxQueuedBytes is ` +
        `${this.options.maxQueuedBytes}. Wait for earlier calls before making more.`,
      "retryable",
      undefined,
      request.path,
    );
  }

  #send(request: Request): void {
    this.#transmit(request, request.opcode === OpCode.auth ? Xid.auth : this.#takeXid());
  }

  #transmit(request: Request, xid: number): void {
    const frame = this.#writer.beginFrame();
    try {
      writeRequestHeader(this.#writer, xid, request.opcode);
      request.write(this.#writer);
      request.bytes = this.#writer.endFrame(frame);
      this.#checkSize(request);
    } catch (error) {
      this.#writer.rewind(frame);
      request.reject(error instanceof ZooKeeperError ? error : unencodable(request, error as Error));
      return;
    }
    request.xid = xid;
    if (xid === Xid.auth) {
      this.#authentications.push(request);
    } else {
      this.#inFlight.push(request);
      this.#inFlightBytes += request.bytes;
    }
    this.#scheduleFlush();
  }

  #checkSize(request: Request): void {
    const { bytes } = request;
    if (bytes <= this.options.maxRequestBytes) return;
    throw new InvalidArgumentError(
      `The ${request.name} has ${bytes} bytes, and the server accepts ${this.options.maxRequestBytes} ` +
        "(jute.maxbuffer). Split it, or raise jute.maxbuffer on every server and juteMaxBufferBytes here.",
      "terminal",
      undefined,
      request.path,
    );
  }

  #rejectUnreadable(request: Request): void {
    const outcome = request.isWrite ? "ambiguous" : "retryable";
    request.reject(
      new ConnectionLossError(`${request.name}: its reply can't be read.`, outcome, -4, request.path),
    );
  }

  /** After all code of this tick, so that everything it sends leaves in one write. */
  #scheduleFlush(): void {
    if (this.#isFlushScheduled) return;
    this.#isFlushScheduled = true;
    process.nextTick(this.#flush);
  }

  readonly #flush = (): void => {
    this.#isFlushScheduled = false;
    const bytes = this.#writer.take();
    if (bytes.length > 0 && this.options.send(bytes)) this.#writer.recycle();
  };
}

/** An argument of a type or size that the wire has no form for, from a caller without type checks. */
function unencodable(request: Request, error: Error): InvalidArgumentError {
  return new InvalidArgumentError(
    `${request.description} can't be encoded: ${error.message}`,
    "terminal",
    undefined,
    request.path,
    { cause: error },
  );
}
