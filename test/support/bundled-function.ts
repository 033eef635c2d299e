import { type ChildProcess, fork } from "node:child_process";
import { join } from "node:path";
import { build } from "esbuild";

import functionBuildOptions = require("../../infra/esbuild/options");

import type { LambdaService } from "../../lib/aws/lambda";

const PROJECT = join(__dirname, "../..");

/** Bundles functions/relay.ts and functions/bundle.ts into the folder as deploying does. */
export async function bundleFunctions(folder: string): Promise<void> {
  const entryPoints = ["functions/relay.ts", "functions/bundle.ts"];
  await build({ ...functionBuildOptions(), absWorkingDir: PROJECT, entryPoints, outdir: folder });
}

interface Answer {
  readonly id: number;
  readonly result?: unknown;
  readonly error?: { readonly errorType: string; readonly errorMessage: string };
}

/** A bundled function in a process that cannot evaluate text as code; it stands in for Lambda's Invoke. */
export class BundledFunction implements LambdaService {
  private readonly child: ChildProcess;
  private lastId = 0;
  private complaints = "";

  /** The process gets these environment variables and none of ours. `node` is what runs it (default: as we are). */
  constructor(file: string, environment: Readonly<Record<string, string>>, node = process.execPath) {
    this.child = fork(join(__dirname, "bundled-process.cjs"), [file], {
      execPath: node,
      execArgv: ["--disallow-code-generation-from-strings", "--enable-source-maps"],
      env: { ...environment },
      stdio: ["ignore", "ignore", "pipe", "ipc"],
    });
    // One for each question that waits for its answer.
    this.child.setMaxListeners(0);
    this.child.stderr!.on("data", (chunk: Buffer) => {
      this.complaints += chunk.toString();
    });
  }

  async invoke({ Payload }: Parameters<LambdaService["invoke"]>[0]): ReturnType<LambdaService["invoke"]> {
    const event: unknown = Payload ? JSON.parse(Buffer.from(Payload as Uint8Array).toString("utf8")) : {};
    const { result, error } = await this.call(event);
    const payload = Buffer.from(JSON.stringify(error ?? result ?? null), "utf8") as never;
    return { StatusCode: 200, ...(error ? { FunctionError: "Unhandled" } : {}), Payload: payload };
  }

  /** What the handler answers to the event. */
  call(event: unknown): Promise<Answer> {
    return this.ask({ event });
  }

  /** What `eval` gives in the process. */
  evaluate(text: string): Promise<Answer> {
    return this.ask({ evaluate: text });
  }

  end(): void {
    this.child.kill("SIGKILL");
  }

  private ask(question: { event: unknown } | { evaluate: string }): Promise<Answer> {
    const { child } = this;
    const id = ++this.lastId;
    return new Promise((resolve, reject) => {
      const settle = (end: () => void): void => {
        child.off("exit", onExit);
        child.off("message", onMessage);
        end();
      };
      const onExit = (): void =>
        settle(() => reject(new Error(`the function's process ended: ${this.complaints}`)));
      const onMessage = (answer: Answer): void => {
        if (answer.id === id) settle(() => resolve(answer));
      };
      child.on("exit", onExit).on("message", onMessage);
      if (child.exitCode !== null || child.signalCode !== null) onExit();
      else child.send({ id, ...question });
    });
  }
}
