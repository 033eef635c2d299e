import { createServer, type IncomingMessage, request, type ServerResponse } from "node:http";

/** One call of an AWS client as IAM sees it. */
export interface RecordedCall {
  /** The application id in the user agent: serverless.yml gives each function its name. */
  readonly caller: string;
  /** As in a policy: "s3:PutObject". */
  readonly action: string;
  /** As much of the ARN as the call tells: what comes after "arn:aws:<service>:<region>:<account>:". */
  readonly resource: string;
  /** The prefix of a listing. */
  readonly prefix?: string;
}

export interface AwsRecorder {
  readonly url: string;
  readonly calls: readonly RecordedCall[];
  /** Where the calls go on to. */
  forwardTo(endpoint: string): void;
  close(): Promise<void>;
}

/** An endpoint that passes every call on as it is, signature included, and writes down what IAM would ask for it. */
export async function startRecorder(): Promise<AwsRecorder> {
  const calls: RecordedCall[] = [];
  let target = "";
  const server = createServer((incoming, outgoing) => {
    const chunks: Buffer[] = [];
    incoming.on("data", (chunk: Buffer) => chunks.push(chunk));
    incoming.on("end", () => {
      const body = Buffer.concat(chunks);
      calls.push(...callsOf(incoming, body));
      passOn(target, incoming, body, outgoing);
    });
  });
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  const { port } = server.address() as { port: number };
  return {
    url: `http://127.0.0.1:${port}`,
    calls,
    forwardTo: (endpoint) => {
      target = endpoint;
    },
    close: () => {
      server.closeAllConnections();
      return new Promise((done) => server.close(() => done()));
    },
  };
}

function passOn(target: string, incoming: IncomingMessage, body: Buffer, outgoing: ServerResponse): void {
  const { method, url, headers } = incoming;
  const onward = request(`${target}${url}`, { method, headers }, (answer) => {
    outgoing.writeHead(answer.statusCode!, answer.headers);
    answer.pipe(outgoing);
  });
  // The caller sees a broken connection, as it would without us.
  onward.on("error", () => outgoing.destroy());
  onward.end(body);
}

function callsOf({ method, url, headers }: IncomingMessage, body: Buffer): RecordedCall[] {
  const caller = /\bapp\/(\S+)/.exec(headers["user-agent"] ?? "")?.[1] ?? "unknown";
  const { pathname, searchParams } = new URL(url!, "http://any");
  const service =
    /Credential=[^/]+\/\d+\/[^/]+\/([^/]+)\//.exec(headers.authorization ?? "")?.[1] ?? "unknown";
  const call = (action: string, resource: string): RecordedCall => ({
    caller,
    action: `${service}:${action}`,
    resource,
  });
  if (service === "lambda") {
    const name = /^\/2015-03-31\/functions\/([^/]+)\/invocations$/.exec(pathname)?.[1];
    return [
      call(name ? "InvokeFunction" : `${method} ${pathname}`, `function:${decodeURIComponent(name ?? "")}`),
    ];
  }
  if (service !== "s3") {
    const action = String(headers["x-amz-target"]).split(".").at(-1)!;
    const { Name = "", SecretId = "" } = JSON.parse(body.toString("utf8") || "{}");
    return [call(action, service === "ssm" ? `parameter${Name}` : SecretId)];
  }
  const object = decodeURIComponent(pathname.slice(1));
  if (!object.includes("/") || object.endsWith("/")) {
    const bucket = object.replace(/\/$/, "");
    return [{ ...call("ListBucket", bucket), prefix: searchParams.get("prefix") ?? "" }];
  }
  const source = headers["x-amz-copy-source"];
  const actions: Record<string, string> = {
    PUT: "PutObject",
    GET: "GetObject",
    HEAD: "GetObject",
    DELETE: "DeleteObject",
  };
  return [
    ...(source === undefined ? [] : [call("GetObject", decodeURIComponent(String(source)))]),
    call(actions[method!] ?? method!, object),
  ];
}
