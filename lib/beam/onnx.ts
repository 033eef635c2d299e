import type { WatchedZnode } from "./followed-znode";
import type { ModelHandler } from "./inference";

/** The part of an ONNX runtime that is used: `onnxruntime-web` and `onnxruntime-node` both have it. */
export interface OnnxRuntime {
  readonly InferenceSession: { create(model: Uint8Array): Promise<OnnxSession> };
  readonly Tensor: new (type: "float32", data: Float32Array, dims: readonly number[]) => unknown;
}

export interface OnnxSession {
  readonly inputNames: readonly string[];
  readonly outputNames: readonly string[];
  run(
    feeds: never,
  ): Promise<Readonly<Record<string, { readonly data: unknown; readonly dims: readonly number[] }>>>;
  release(): Promise<void>;
}

export interface OnnxOptions<I, O> {
  /** Loads the runtime when the first model is loaded: `() => import("onnxruntime-web")`. */
  readonly runtime: () => Promise<OnnxRuntime>;
  /** The bytes of the model. Default: those of its znode. */
  readonly model?: (znode: WatchedZnode) => Promise<Uint8Array> | Uint8Array;
  /** The numbers of one element, as many for each. */
  readonly features: (element: I) => readonly number[];
  /** The result for an element from the numbers that the model gave for it. */
  readonly result: (element: I, output: readonly number[]) => O;
  /** Names of the model's input and output, of the shapes [batch, features] and [batch, n]. Default: the first of each. */
  readonly input?: string;
  readonly output?: string;
}

interface Model {
  readonly runtime: OnnxRuntime;
  readonly session: OnnxSession;
}

/**
 * Runs an ONNX model whose input is a row of float32 for each element. The runtime is a package of your own choice:
 * `onnxruntime-web` is WebAssembly and runs wherever Node does, `onnxruntime-node` is native.
 */
export function onnxHandler<I, O>(options: OnnxOptions<I, O>): ModelHandler<I, O, Model> {
  const { runtime: loadRuntime, model: bytesOf = ({ data }) => data, features, result } = options;
  return {
    async load(znode) {
      const runtime = await loadRuntime();
      return {
        runtime,
        session: await runtime.InferenceSession.create(new Uint8Array(await bytesOf(znode))),
      };
    },
    async predict({ runtime, session }, batch) {
      const { input = session.inputNames[0]!, output = session.outputNames[0]! } = options;
      const rows = batch.map((element) => features(element));
      const columns = rows[0]!.length;
      if (rows.some((row) => row.length !== columns))
        throw new TypeError("onnxHandler: features must give as many numbers for each element");
      const tensor = new runtime.Tensor("float32", Float32Array.from(rows.flat()), [rows.length, columns]);
      const { [output]: given } = await session.run({ [input]: tensor } as never);
      const values = Array.from(given?.data as ArrayLike<number>, Number);
      const width = values.length / rows.length;
      if (!Number.isInteger(width) || width === 0)
        throw new TypeError(
          `onnxHandler: the output "${output}" has ${values.length} numbers for ${rows.length} elements`,
        );
      return batch.map((element, row) => result(element, values.slice(row * width, (row + 1) * width)));
    },
    unload: ({ session }) => session.release(),
  };
}
