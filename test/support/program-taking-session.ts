/** A process that takes over the session whose ticket it reads, writes with it, and ends it. */
import { connect, SessionTicket } from "../../lib/zookeeper";

async function main(connectString: string): Promise<void> {
  const parts: Buffer[] = [];
  for await (const part of process.stdin) parts.push(part);
  const session = SessionTicket.fromBytes(Buffer.concat(parts));
  const client = await connect({ connectString, session });
  const ephemerals = await client.getEphemerals("/");
  await client.create("/from-the-heir");
  process.stdout.write(`${JSON.stringify({ isResumed: client.isResumed, ephemerals })}\n`);
  await client.close();
}

void main(process.argv[2]!);
