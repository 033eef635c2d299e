import { createHash, createHmac } from "node:crypto";

const hash = (text: string): string => createHash("sha256").update(text).digest("hex");
const hmac = (key: string | Buffer, text: string): Buffer => createHmac("sha256", key).update(text).digest();

/**
 * A call of AWS's query protocol ("Action=ListRoles&Version=..."), signed with Signature Version 4, for services whose
 * client the project does not have.
 */
export async function awsQuery(endpoint: string, service: string, body: string): Promise<string> {
  const { host } = new URL(endpoint);
  const time = new Date().toISOString().replace(/[-:]|\.\d+/g, "");
  const scope = `${time.slice(0, 8)}/us-east-1/${service}/aws4_request`;
  const type = "application/x-www-form-urlencoded";
  const canonical = `POST\n/\n\ncontent-type:${type}\nhost:${host}\nx-amz-date:${time}\n\ncontent-type;host;x-amz-date\n${hash(body)}`;
  const key = scope.split("/").reduce<string | Buffer>((from, part) => hmac(from, part), "AWS4test");
  const signature = hmac(key, `AWS4-HMAC-SHA256\n${time}\n${scope}\n${hash(canonical)}`).toString("hex");
  const authorization = `AWS4-HMAC-SHA256 Credential=test/${scope}, SignedHeaders=content-type;host;x-amz-date, Signature=${signature}`;
  const headers = { authorization, "content-type": type, "x-amz-date": time };
  const answer = await fetch(`${endpoint}/`, { method: "POST", headers, body });
  const text = await answer.text();
  if (!answer.ok) throw new Error(`${service} ${body}: ${text}`);
  return text;
}
