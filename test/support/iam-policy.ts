import type { RecordedCall } from "./aws-recorder";

export interface Statement {
  readonly Sid: string;
  readonly Effect: "Allow" | "Deny";
  readonly Action: string | readonly string[];
  readonly Resource: unknown;
  readonly Condition?: { readonly StringLike?: { readonly "s3:prefix"?: string | readonly string[] } };
}

/** What a template's functions stand for: a parameter or a resource by its logical id, an attribute as "id.name". */
export type Names = Readonly<Record<string, string>>;

/** The text that a value of a template comes to. */
export function resolve(value: unknown, names: Names): string {
  if (typeof value === "string") return value;
  const [[name, argument] = ["", undefined]] = Object.entries(value as Record<string, unknown>);
  if (name === "Fn::Join") {
    const [separator, parts] = argument as [string, unknown[]];
    return parts.map((part) => resolve(part, names)).join(separator);
  }
  const key = name === "Fn::GetAtt" ? (argument as string[]).join(".") : String(argument);
  const known = names[key];
  if (known === undefined) throw new Error(`the test knows no ${key}`);
  return known;
}

/** Whether the statement allows the call: action, resource (with "*") and the prefix of a listing. */
export function allows(statement: Statement, call: RecordedCall, names: Names): boolean {
  if (statement.Effect !== "Allow" || ![statement.Action].flat().includes(call.action)) return false;
  const prefix = statement.Condition?.StringLike?.["s3:prefix"];
  if (prefix !== undefined && ![prefix].flat().some((each) => isLike(call.prefix ?? "", each))) return false;
  return [statement.Resource]
    .flat()
    .some((resource) => isLike(call.resource, partOf(resolve(resource, names))));
}

/** What comes after "arn:aws:<service>:<region>:<account>:". */
function partOf(arn: string): string {
  return arn.split(":").slice(5).join(":");
}

function isLike(text: string, pattern: string): boolean {
  const escaped = pattern.split("*").map((part) => part.replace(/[.+?^${}()|[\]\\]/g, "\\$&"));
  return new RegExp(`^${escaped.join(".*")}$`).test(text);
}
