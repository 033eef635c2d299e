import type { ZnodeChange } from "../checkpoint/znode-change";

/** Turns the bytes of a znode into a value. It runs in the bundle function, as the pipeline's other code does. */
export interface Decoder<T> {
  /** What the bytes should be, for the error: "JSON". */
  readonly format: string;
  /** Throws where the bytes are something else. */
  decode(data: Buffer, path: string): T;
}

/** A change with its value decoded; `value` is null where there are no bytes to decode. */
export interface DecodedZnodeChange<T> extends ZnodeChange {
  readonly value: T | null;
  /** Decoded from `previous`; absent where that is, null also where the bytes before could not be decoded. */
  readonly previousValue?: T | null;
}

/** A znode whose bytes are not what the pipeline expects of them. Terminal: they are the same the next time. */
export class ZnodeDecodeError extends Error {
  override readonly name = "ZnodeDecodeError";
  readonly outcome = "terminal";
  constructor(
    readonly path: string,
    readonly format: string,
    change: ZnodeChange,
    cause: unknown,
  ) {
    const why = cause instanceof Error ? cause.message : String(cause);
    super(
      `${path}: the value of version ${change.version} (${change.data?.length ?? 0} bytes, zxid 0x${change.zxid.toString(16)}) is not ${format}: ${why}. ` +
        "Leave the path out (`exclude`), filter on the value (`filter`), or read `bytes()` and decode it in the pipeline.",
      { cause },
    );
  }
}

/**
 * Decodes JSON.
 *
 * @param check turns what was parsed into the type, and throws where it is none. Default: it is taken to be one.
 */
export function json<T = unknown>(check?: (value: unknown) => T): Decoder<T> {
  return {
    format: "JSON",
    decode(data) {
      const value = parseJson(data);
      return check ? check(value) : (value as T);
    },
  };
}

/**
 * The JSON in the bytes. Throws an error that shows nothing of them: JSON.parse's would quote the text, errors are
 * logged, and values are not.
 */
export function parseJson(data: Uint8Array): unknown {
  const json = new TextDecoder("utf-8", { fatal: true }).decode(data);
  try {
    return JSON.parse(json);
  } catch (error) {
    const { message } = error as SyntaxError;
    throw new SyntaxError(
      message.endsWith("is not valid JSON") ? "a token that JSON does not have" : message,
    );
  }
}

/** Decodes UTF-8 text; bytes that are none are an error, not replacement characters. */
export function text(): Decoder<string> {
  return { format: "UTF-8 text", decode: (data) => new TextDecoder("utf-8", { fatal: true }).decode(data) };
}

/** Leaves the bytes as they are. */
export function bytes(): Decoder<Buffer> {
  return { format: "bytes", decode: (data) => data };
}

/** The change with its value; throws {@link ZnodeDecodeError}. */
export function decodeChange<T>(decoder: Decoder<T>, change: ZnodeChange): DecodedZnodeChange<T> {
  const { data, path, previous } = change;
  const decoded = { ...change, value: data === null ? null : attempt(decoder, data, change) };
  if (previous === undefined) return decoded;
  return { ...decoded, previousValue: previous === null ? null : decodeOrNull(decoder, previous, path) };
}

function attempt<T>(decoder: Decoder<T>, data: Buffer, change: ZnodeChange): T {
  try {
    return decoder.decode(data, change.path);
  } catch (error) {
    throw new ZnodeDecodeError(change.path, decoder.format, change, error);
  }
}

/** What was there before was delivered once, and its error with it. */
function decodeOrNull<T>(decoder: Decoder<T>, data: Buffer, path: string): T | null {
  try {
    return decoder.decode(data, path);
  } catch {
    return null;
  }
}
