import { type ChildProcess, fork } from "node:child_process";
import type { LambdaService } from "../../lib/aws/lambda";
import type { ShardInvoker } from "../../lib/checkpoint/invocation";
import type { Death, FromFunction, MortalName, MortalPipeline, ToFunction } from "./function-process";
import { useProgram } from "./program";

export interface MortalOptions {
  readonly environment: Readonly<Record<string, string>>;
  readonly pipeline: MortalPipeline;
  /** Where each process dies, in turn; processes after the last entry live. */
  readonly deaths: readonly Death[];
  /** Answers what a relay in the process invokes. */
  readonly invoke?: ShardInvoker;
}

const program = useProgram("function-process");

/** Enough for everything but a process that wants all. */
const MEMORY_MB = 256;

/** Lambda with one execution environment that is a process: when it dies, the invocation fails and the next one gets a new process. */
export class MortalFunction implements LambdaService {
  private child: ChildProcess | undefined;
  private lastId = 0;
  /** How many processes met their own death. */
  deaths = 0;

  constructor(private readonly options: MortalOptions) {}

  async invoke({
    FunctionName,
    Payload,
  }: Parameters<LambdaService["invoke"]>[0]): ReturnType<LambdaService["invoke"]> {
    const child = this.running();
    const id = ++this.lastId;
    const event: unknown = Payload ? JSON.parse(Buffer.from(Payload as Uint8Array).toString("utf8")) : {};
    return new Promise((resolve) => {
      const onExit = (): void =>
        resolve(failed({ errorType: "Runtime.ExitError", errorMessage: "the process was killed" }));
      const onMessage = (message: FromFunction): void => {
        if ("wanted" in message || message.id !== id) return;
        child.off("exit", onExit);
        child.off("message", onMessage);
        resolve(
          message.error ? failed(message.error) : { StatusCode: 200, Payload: payload(message.result) },
        );
      };
      child.once("exit", onExit);
      child.on("message", onMessage);
      // A process that has just died is heard of by its exit.
      child.send({ id, invoke: FunctionName as MortalName, event } satisfies ToFunction, () => undefined);
    });
  }

  /** As an environment that nobody invokes. */
  freeze(): void {
    this.child?.kill("SIGSTOP");
  }

  thaw(): void {
    this.child?.kill("SIGCONT");
  }

  end(): void {
    this.child?.kill("SIGKILL");
    this.child = undefined;
  }

  private running(): ChildProcess {
    if (this.child) return this.child;
    const { environment, pipeline, deaths, invoke } = this.options;
    const death = deaths[this.deaths];
    const isHungry = death?.by === "memory";
    const child = fork(program.file, {
      execArgv: isHungry ? [`--max-old-space-size=${MEMORY_MB}`] : [],
      // What the engine says of its memory is a page.
      stdio: ["ignore", "inherit", isHungry ? "ignore" : "inherit", "ipc"],
      env: {
        ...process.env,
        ...environment,
        TEST_PIPELINE: JSON.stringify(pipeline),
        TEST_DEATH: death ? JSON.stringify(death) : "",
      },
    });
    // Two for each invocation that is under way.
    child.setMaxListeners(0);
    child.once("exit", (_code, signal) => {
      if (this.child === child) this.child = undefined;
      if (signal === (isHungry ? "SIGABRT" : "SIGKILL") && death) this.deaths += 1;
    });
    child.on("message", (message: FromFunction) => {
      if (!("wanted" in message) || !invoke) return;
      const { id, wanted } = message;
      const answer = (reply: Omit<Exclude<ToFunction, { invoke: string }>, "id">): void => {
        if (child.connected) child.send({ id, ...reply });
      };
      invoke(wanted).then(
        (reply) => answer({ reply }),
        (error: Error) => answer({ failure: error.message }),
      );
    });
    this.child = child;
    return child;
  }
}

function failed(error: {
  errorType: string;
  errorMessage: string;
}): Awaited<ReturnType<LambdaService["invoke"]>> {
  return { StatusCode: 200, FunctionError: "Unhandled", Payload: payload(error) };
}

function payload(value: unknown): NonNullable<Awaited<ReturnType<LambdaService["invoke"]>>["Payload"]> {
  return Buffer.from(JSON.stringify(value ?? null), "utf8") as never;
}
