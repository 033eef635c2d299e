import { withOwnAcl } from "../checkpoint/own-acl";
import { type Settings, settingsOf } from "../settings";
import { AuthFailedError, connect, type ZooKeeper } from "../zookeeper";
import { readCredentials, type SecretReader, type ZooKeeperCredentials } from "./secret";

/**
 * Connects to the ensemble of the settings, with the credentials of their secret. The secret is read once for each
 * process, and again after the ensemble has refused it: it may have been rotated. What the client creates below
 * Beamkeeper's root gets the root's ACL.
 */
export function ensembleConnector(settings: Settings, read?: SecretReader): () => Promise<ZooKeeper> {
  const { secret } = settings;
  let known: Promise<ZooKeeperCredentials> | undefined;
  const credentials = async (): Promise<ZooKeeperCredentials> => {
    if (secret === undefined) return {};
    known ??= readCredentials(secret, read).catch((error: unknown) => {
      known = undefined;
      throw error;
    });
    return known;
  };
  return async () => {
    try {
      const own = await credentials();
      const client = await connect({ ...settings, ...own });
      const hasIdentity = own.authentication !== undefined || own.sasl !== undefined;
      return await withOwnAcl(client, settings.root, hasIdentity);
    } catch (error) {
      if (error instanceof AuthFailedError) known = undefined;
      throw error;
    }
  };
}

/**
 * Connects to the other ensembles of the settings, by name, as {@link ensembleConnector} does. Throws SettingsError
 * for a name that they don't have.
 */
export function otherEnsembles(
  settings: Settings,
  read?: SecretReader,
): (ensemble: string) => Promise<ZooKeeper> {
  const connectors = new Map<string, () => Promise<ZooKeeper>>();
  return async (ensemble) => {
    const connector = connectors.get(ensemble) ?? ensembleConnector(settingsOf(settings, ensemble), read);
    connectors.set(ensemble, connector);
    return connector();
  };
}
