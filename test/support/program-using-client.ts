/** A process that uses the client, closes it, and has nothing else that keeps it alive. */
import { connect } from "../../lib/zookeeper";

async function main(connectString: string): Promise<void> {
  const client = await connect({ connectString });
  await client.addWatch("/", "persistentRecursive", () => undefined);
  await client.create("/from-a-process");
  process.stdout.write("created\n");
  await client.close();
}

void main(process.argv[2]!);
