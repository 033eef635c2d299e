import { type ChildProcess, fork } from "node:child_process";
import type { ShardInvoker, ShardReply, ShardRequest } from "../checkpoint/invocation";
import type { CommitFate } from "./commit-fates";

export type ToProcess =
  | { readonly id: number; readonly invoke: "bundle" | "relay"; readonly event: unknown }
  /** The answer to an invocation that the relay made. */
  | { readonly id: number; readonly reply?: ShardReply; readonly failure?: string };

export type FromProcess =
  | { readonly id: number; readonly result?: unknown; readonly error?: string }
  | { readonly id: number; readonly wanted: ShardRequest }
  | { readonly fate: CommitFate };

/** The shards of each stage of the pipeline that the processes run. */
export const SHARDS = 2;

export interface HostOptions {
  /** The module that a process runs. */
  readonly module: string;
  readonly environment: NodeJS.ProcessEnv;
  /** Answers what a relay in the process invokes. */
  readonly invoke?: ShardInvoker;
  readonly onFate: (fate: CommitFate) => void;
}

/** One execution environment: a process that can be killed and stopped; the next invocation starts another one. */
export class HostedProcess {
  private child: ChildProcess | undefined;
  private lastId = 0;
  /** Invocations under way. */
  busy = 0;

  constructor(private readonly options: HostOptions) {}

  /** Rejects when the process ends before it answers, or answers with an error. */
  invoke(what: "bundle" | "relay", event: unknown): Promise<unknown> {
    const child = this.running();
    this.lastId += 1;
    const id = this.lastId;
    this.busy += 1;
    const answered = new Promise<unknown>((resolve, reject) => {
      const onExit = (): void => reject(new Error("the process was killed"));
      const onMessage = (message: FromProcess): void => {
        if ("fate" in message || "wanted" in message || message.id !== id) return;
        child.off("exit", onExit);
        child.off("message", onMessage);
        if (message.error === undefined) resolve(message.result);
        else reject(new Error(message.error));
      };
      child.once("exit", onExit);
      child.on("message", onMessage);
      child.send({ id, invoke: what, event } satisfies ToProcess, (error) => error && reject(error));
    });
    return answered.finally(() => {
      this.busy -= 1;
    });
  }

  /** Sends a signal to the process, if there is one; true if there was. */
  signal(signal: NodeJS.Signals): boolean {
    return this.child?.kill(signal) ?? false;
  }

  end(): void {
    this.child?.kill("SIGKILL");
    this.child = undefined;
  }

  private running(): ChildProcess {
    if (this.child) return this.child;
    const { module, environment, invoke, onFate } = this.options;
    const child = fork(module, {
      execArgv: ["--import", "tsx"],
      env: environment,
    });
    child.setMaxListeners(100);
    child.once("exit", () => {
      if (this.child === child) this.child = undefined;
    });
    child.on("message", (message: FromProcess) => {
      if ("fate" in message) onFate(message.fate);
      else if ("wanted" in message && invoke) void this.forward(child, message, invoke);
    });
    this.child = child;
    return child;
  }

  private async forward(
    child: ChildProcess,
    { id, wanted }: { readonly id: number; readonly wanted: ShardRequest },
    invoke: ShardInvoker,
  ): Promise<void> {
    const answer = await invoke(wanted).then(
      (reply) => ({ id, reply }),
      (error: Error) => ({ id, failure: error.message }),
    );
    if (child.connected) child.send(answer satisfies ToProcess, () => undefined);
  }
}
