/** A process that starts a server, says which, and waits to be killed. */
import { startZooKeeper } from "../../infra/zookeeper/server";

async function main(): Promise<void> {
  const { servers } = await startZooKeeper();
  const { pid, port, directory } = servers[0]!;
  process.stdout.write(`${JSON.stringify({ pid, port, directory })}\n`);
}

void main();
