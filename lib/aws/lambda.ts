import type { InvokeCommandInput, InvokeCommandOutput } from "@aws-sdk/client-lambda";
import type { DeployedCode } from "../checkpoint/code";
import type { ShardInvoker, ShardReply } from "../checkpoint/invocation";
import type { FunctionCode } from "../checkpoint/records";

/** Lambda's Invoke, as the SDK's client answers it and as a local stand-in for the service does. */
export interface LambdaService {
  invoke(
    input: InvokeCommandInput,
  ): Promise<Pick<InvokeCommandOutput, "StatusCode" | "FunctionError" | "Payload">>;
}

/** A function that answered with an error of its own. Nothing is known of what it did; asking again is safe. */
export class FunctionFailedError extends Error {
  override readonly name = "FunctionFailedError";
  readonly outcome: "retryable" | "terminal" = "retryable";
  constructor(
    functionName: string,
    readonly errorType: string,
    readonly errorMessage: string,
  ) {
    super(`${functionName}: ${errorType}: ${errorMessage}`);
  }
}

/** Calls the bundle function through Lambda's Invoke (RequestResponse). */
export function shardInvoker(lambda: LambdaService, functionName: string): ShardInvoker {
  return async (request, version) => {
    const answer = await lambda.invoke({
      FunctionName: version === undefined ? functionName : versionOf(functionName, version),
      InvocationType: "RequestResponse",
      Payload: Buffer.from(JSON.stringify(request), "utf8"),
    });
    const payload: unknown = JSON.parse(Buffer.from(answer.Payload ?? []).toString("utf8") || "null");
    if (answer.FunctionError) throw functionFailed(functionName, payload);
    return payload as ShardReply;
  };
}

function functionFailed(functionName: string, payload: unknown): FunctionFailedError {
  const { errorType, errorMessage } = (payload ?? {}) as { errorType?: string; errorMessage?: string };
  return new FunctionFailedError(
    functionName,
    errorType ?? "Error",
    errorMessage ?? "the function gave no reason",
  );
}

/** As Invoke takes it, and as a policy names it. */
function versionOf(functionName: string, version: string): string {
  return `${functionName}:${version}`;
}

/** Starts an invocation and does not wait for its end. */
export async function startInvocation(
  lambda: LambdaService,
  functionName: string,
  event: object,
): Promise<void> {
  const Payload = Buffer.from(JSON.stringify(event), "utf8");
  await lambda.invoke({ FunctionName: functionName, InvocationType: "Event", Payload });
}

/** The code that this deployment was made with: a version of its bundle function. */
export function deployedCode(lambda: LambdaService, code: FunctionCode): DeployedCode {
  return {
    code,
    // The right to invoke is for versions of the deployment's own function only.
    isThere: async ({ function: name, version }) => {
      if (name !== code.function) return false;
      try {
        await lambda.invoke({ FunctionName: versionOf(name, version), InvocationType: "DryRun" });
        return true;
      } catch (error) {
        if (error instanceof Error && error.name === "ResourceNotFoundException") return false;
        throw error;
      }
    },
  };
}

/** The real service; AWS_ENDPOINT_URL and the usual AWS variables decide where it is. Loaded only when it is needed. */
export async function awsLambda(): Promise<LambdaService> {
  return (await import("./lambda-client.js")).createLambda();
}

/** What a handler gets of Lambda's context. */
export interface InvocationContext {
  getRemainingTimeInMillis(): number;
}

export type Handler = (event: unknown, context: InvocationContext) => Promise<unknown>;

/**
 * Lambda's Invoke for handlers of this process: payloads travel as JSON, errors come back as FunctionError, and
 * the remaining time counts down, as the service does it.
 */
export class LocalLambda implements LambdaService {
  private readonly handlers = new Map<string, { readonly handler: Handler; readonly timeoutMs: number }>();

  constructor(private readonly now: () => number) {}

  /** Deploys a handler under a name; `timeoutMs` is the function's time limit. */
  deploy(functionName: string, handler: Handler, timeoutMs: number): void {
    this.handlers.set(functionName, { handler, timeoutMs });
  }

  async invoke(input: InvokeCommandInput): ReturnType<LambdaService["invoke"]> {
    const deployed = this.handlers.get(input.FunctionName ?? "");
    if (!deployed) throw new Error(`no function is deployed under the name "${input.FunctionName}"`);
    const event: unknown = input.Payload
      ? JSON.parse(Buffer.from(input.Payload as Uint8Array).toString("utf8"))
      : {};
    const endMs = this.now() + deployed.timeoutMs;
    try {
      const result = await deployed.handler(event, {
        getRemainingTimeInMillis: () => Math.max(0, endMs - this.now()),
      });
      return { StatusCode: 200, Payload: toPayload(result) };
    } catch (error) {
      // Not by instanceof: an error may come from another realm.
      const { name = "Error", message = String(error) } = (error ?? {}) as Partial<Error>;
      return {
        StatusCode: 200,
        FunctionError: "Unhandled",
        Payload: toPayload({ errorType: name, errorMessage: message }),
      };
    }
  }
}

function toPayload(value: unknown): InvokeCommandOutput["Payload"] {
  return Buffer.from(JSON.stringify(value ?? null), "utf8") as unknown as InvokeCommandOutput["Payload"];
}
