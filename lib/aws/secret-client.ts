import { GetSecretValueCommand, SecretsManagerClient } from "@aws-sdk/client-secrets-manager";

/** The text of a secret of Secrets Manager. Only `secret.ts` imports this file, when it is needed. */
export async function getSecret(arn: string): Promise<string | undefined> {
  const { SecretString } = await new SecretsManagerClient({}).send(
    new GetSecretValueCommand({ SecretId: arn }),
  );
  return SecretString;
}
