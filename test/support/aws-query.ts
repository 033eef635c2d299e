import { createHash, createHmac } from "node:crypto";

const hash = (text: string): string => createHash("sha256").update(text).digest("hex");
const hmac = (key: string | Buffer, text: string): Buffer => createHmac("sha256", key).update(text).digest();

interface Call {
  readonly method: "GET" | "POST";
  readonly path: string;
  readonly type: string;
  readonly body: string;
  /** Of the JSON protocol: the operation. */
  readonly target?: string;
}

/** A call of AWS's query protocol ("Action=ListRoles&Version=..."), for services whose client the project does not have. */
export function awsQuery(endpoint: string, service: string, body: string): Promise<string> {
  return call(endpoint, service, {
    method: "POST",
    path: "/",
    type: "application/x-www-form-urlencoded",
    body,
  });
}

/** The same for services whose protocol is REST: GET of a path without parameters. */
export function awsGet(endpoint: string, service: string, path: string): Promise<string> {
  return call(endpoint, service, { method: "GET", path, type: "application/json", body: "" });
}

/** The same for the JSON protocol: an operation such as "Logs_20140328.FilterLogEvents". */
export function awsJson(
  endpoint: string,
  service: string,
  target: string,
  parameters: object,
): Promise<string> {
  const body = JSON.stringify(parameters);
  return call(endpoint, service, {
    method: "POST",
    path: "/",
    type: "application/x-amz-json-1.1",
    body,
    target,
  });
}

/** Signed with Signature Version 4. */
async function call(
  endpoint: string,
  service: string,
  { method, path, type, body, target }: Call,
): Promise<string> {
  const { host } = new URL(endpoint);
  const time = new Date().toISOString().replace(/[-:]|\.\d+/g, "");
  const scope = `${time.slice(0, 8)}/us-east-1/${service}/aws4_request`;
  const signed = {
    "content-type": type,
    host,
    "x-amz-date": time,
    ...(target === undefined ? {} : { "x-amz-target": target }),
  };
  const names = Object.keys(signed).join(";");
  const lines = Object.entries(signed).map(([name, value]) => `${name}:${value}\n`);
  const canonical = `${method}\n${path}\n\n${lines.join("")}\n${names}\n${hash(body)}`;
  const key = scope.split("/").reduce<string | Buffer>((from, part) => hmac(from, part), "AWS4test");
  const signature = hmac(key, `AWS4-HMAC-SHA256\n${time}\n${scope}\n${hash(canonical)}`).toString("hex");
  const authorization = `AWS4-HMAC-SHA256 Credential=test/${scope}, SignedHeaders=${names}, Signature=${signature}`;
  const { host: _, ...headers } = signed;
  const init = method === "POST" ? { method, body } : { method };
  const answer = await fetch(`${endpoint}${path}`, { ...init, headers: { ...headers, authorization } });
  const text = await answer.text();
  if (!answer.ok) throw new Error(`${service} ${path} ${body}: ${text}`);
  return text;
}
