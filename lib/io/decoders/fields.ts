/** Reading values of unknown origin: each throws with the field's name where the value is something else. */
import { parseJson } from "../decode";

export type Fields = Readonly<Record<string, unknown>>;

/** The JSON object in the bytes. */
export function jsonObject(data: Uint8Array): Fields {
  return object(parseJson(data), "the value");
}

export function object(value: unknown, name: string): Fields {
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw new TypeError(`${name} is not an object`);
  return value as Fields;
}

export function textField(fields: Fields, name: string): string {
  const value = fields[name];
  if (typeof value !== "string") throw new TypeError(`the field ${name} is not a text`);
  return value;
}

/** A whole number, also one that is written as a text. */
export function integerField(fields: Fields, name: string): number {
  const value = typeof fields[name] === "string" ? Number(fields[name]) : fields[name];
  if (!Number.isSafeInteger(value)) throw new TypeError(`the field ${name} is not a whole number`);
  return value as number;
}

export function optional<T>(
  fields: Fields,
  name: string,
  read: (fields: Fields, name: string) => T,
): T | undefined {
  return fields[name] === undefined || fields[name] === null ? undefined : read(fields, name);
}

export function integers(value: unknown, name: string): number[] {
  if (!Array.isArray(value) || !value.every((each) => Number.isSafeInteger(each)))
    throw new TypeError(`${name} is not a list of whole numbers`);
  return value as number[];
}

/** The names of `path` below `base`; undefined where it is not below. `base` may be "/". */
export function namesBelow(path: string, base: string): string[] | undefined {
  const prefix = base === "/" ? "/" : `${base}/`;
  return path.startsWith(prefix) ? path.slice(prefix.length).split("/") : undefined;
}
