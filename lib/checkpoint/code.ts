import {
  BadVersionError,
  ConnectionLossError,
  SessionExpiredError,
  type ZooKeeperClient,
} from "../zookeeper";
import { admitsCommits, encodeGeneration, type FunctionCode } from "./records";
import { type CurrentGeneration, readGeneration } from "./scope";

/** The code of this deployment, and a way to find out about others. */
export interface DeployedCode {
  readonly code: FunctionCode;
  /** Whether that version can still be invoked from here. */
  readonly isThere: (code: FunctionCode) => Promise<boolean>;
}

/**
 * Names this deployment's code in `generation`, where it may take over: nothing is named yet, what is named is an
 * earlier version of the same function, or is gone. The caller has made sure that the graph is the same.
 *
 * One setData with the generation's version: so it stops every commit in flight, and what the old code had not committed
 * is done by the new. A relay of an older deployment follows what is named and never names its own again. Nothing is
 * changed while the pipeline is paused. Returns the generation as it is then. Rejects with the client's error.
 */
export async function takeOver(
  client: ZooKeeperClient,
  current: CurrentGeneration,
  own: DeployedCode | undefined,
): Promise<CurrentGeneration> {
  for (let now = current; ; ) {
    const { generation, version, layout } = now;
    if (!own || !admitsCommits(generation) || !(await mayTakeOver(generation.code, own))) return now;
    try {
      const data = encodeGeneration({ ...generation, code: own.code });
      await client.setData(layout.generation, data, version);
    } catch (error) {
      const isLost = error instanceof ConnectionLossError || error instanceof SessionExpiredError;
      if (!isLost && !(error instanceof BadVersionError)) throw error;
      await client.connected();
    }
    const next = await readGeneration(client, layout);
    if (next?.generation.fingerprint !== generation.fingerprint) return next ?? now;
    now = next;
  }
}

async function mayTakeOver(
  named: FunctionCode | undefined,
  { code, isThere }: DeployedCode,
): Promise<boolean> {
  if (!named) return true;
  if (named.function === code.function) {
    // Lambda counts versions up, and never gives a number twice while the function exists.
    if (named.version === code.version) return false;
    if (Number(named.version) < Number(code.version)) return true;
  }
  return !(await isThere(named));
}
