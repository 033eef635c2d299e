import { GetParameterCommand, SSMClient } from "@aws-sdk/client-ssm";

/** The value of a parameter of SSM, deciphered. Only `secret.ts` imports this file, when it is needed. */
export async function getParameter(name: string): Promise<string | undefined> {
  const { Parameter } = await new SSMClient({}).send(
    new GetParameterCommand({ Name: name, WithDecryption: true }),
  );
  return Parameter?.Value;
}
