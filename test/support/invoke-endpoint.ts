import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import type { LambdaService } from "../../lib/aws/lambda";

/** The part of Lambda's HTTP API that `Invoke` uses, on loopback, in front of functions that run here. */
export interface InvokeEndpoint {
  /** For AWS_ENDPOINT_URL. */
  readonly url: string;
  /** The functions' names, in the order of the invocations. */
  readonly invoked: readonly string[];
  close(): Promise<void>;
}

export async function startInvokeEndpoint(
  functions: Readonly<Record<string, LambdaService>>,
): Promise<InvokeEndpoint> {
  const invoked: string[] = [];
  const server = createServer(async (request, response) => {
    const name = /^\/2015-03-31\/functions\/([^/]+)\/invocations$/.exec(request.url ?? "")?.[1] ?? "";
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const target = functions[decodeURIComponent(name)];
    if (!target) {
      response.writeHead(404, { "x-amzn-errortype": "ResourceNotFoundException" }).end("{}");
      return;
    }
    invoked.push(name);
    const answer = await target.invoke({ FunctionName: name, Payload: Buffer.concat(chunks) });
    if (answer.FunctionError) response.setHeader("x-amz-function-error", answer.FunctionError);
    response.writeHead(200).end(answer.Payload);
  });
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    invoked,
    close: () =>
      new Promise((done) => {
        server.close(() => done());
        server.closeAllConnections();
      }),
  };
}
