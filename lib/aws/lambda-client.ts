import { InvokeCommand, LambdaClient } from "@aws-sdk/client-lambda";
import type { LambdaService } from "./lambda";

/** The SDK's client. Only `lambda.ts` imports this file, when it is needed. */
export function createLambda(): LambdaService {
  // An invocation lasts 15 minutes at most; a connection that is silent for longer has died without a word.
  const client = new LambdaClient({ requestHandler: { socketTimeout: 16 * 60_000 } });
  return { invoke: (input) => client.send(new InvokeCommand(input)) };
}
