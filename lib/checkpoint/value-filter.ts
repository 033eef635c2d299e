/**
 * Filters on values, in the pattern language of Lambda's event filtering: an object whose fields are lists of
 * what is allowed, all fields must fit. Plain data, so that the relay can apply it without running user code.
 */
export type FieldRule =
  | string
  | number
  | boolean
  | null
  | { readonly prefix: string }
  | { readonly suffix: string }
  | { readonly exists: boolean }
  | { readonly "anything-but": readonly (string | number | boolean | null)[] }
  | { readonly numeric: readonly (string | number)[] };

/** `{ level: ["error", { prefix: "warn" }], owner: { team: ["a"] } }`: a list holds alternatives, an object goes deeper. */
export interface ValueFilter {
  readonly [field: string]: readonly FieldRule[] | ValueFilter;
}

const COMPARISONS: Readonly<Record<string, (value: number, limit: number) => boolean>> = {
  "=": (value, limit) => value === limit,
  "<": (value, limit) => value < limit,
  "<=": (value, limit) => value <= limit,
  ">": (value, limit) => value > limit,
  ">=": (value, limit) => value >= limit,
};

/** What is wrong with a filter, or undefined. */
export function filterProblem(filter: unknown, where = "filter"): string | undefined {
  if (!isObject(filter)) return `${where} must be an object, or a list of what is allowed`;
  for (const [field, rules] of Object.entries(filter)) {
    const name = `${where}.${field}`;
    const problem = Array.isArray(rules) ? listProblem(rules, name) : filterProblem(rules, name);
    if (problem !== undefined) return problem;
  }
  return Object.keys(filter).length === 0 ? `${where} must name a field` : undefined;
}

/** Whether a znode's value passes. A value that is no JSON object has no fields, so it passes only `exists: false`. */
export function passesFilter(filter: ValueFilter, data: Uint8Array): boolean {
  return passes(filter, parse(data));
}

function parse(data: Uint8Array): unknown {
  try {
    return JSON.parse(Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString("utf8"));
  } catch {
    return undefined;
  }
}

function passes(filter: ValueFilter, value: unknown): boolean {
  const fields: Record<string, unknown> = isObject(value) ? value : {};
  return Object.entries(filter).every(([field, rules]) => {
    const found = Object.hasOwn(fields, field) ? fields[field] : undefined;
    if (!Array.isArray(rules)) return passes(rules as ValueFilter, found);
    // A field with a list fits if one of its members does.
    const candidates = Array.isArray(found) ? found : [found];
    return (rules as readonly FieldRule[]).some((rule) => candidates.some((each) => fits(rule, each)));
  });
}

function fits(rule: FieldRule, value: unknown): boolean {
  if (typeof rule !== "object" || rule === null) return value === rule;
  if ("exists" in rule) return (value !== undefined) === rule.exists;
  if (value === undefined) return false;
  if ("prefix" in rule) return typeof value === "string" && value.startsWith(rule.prefix);
  if ("suffix" in rule) return typeof value === "string" && value.endsWith(rule.suffix);
  if ("anything-but" in rule) return !rule["anything-but"].includes(value as never);
  return typeof value === "number" && inRange(rule.numeric, value);
}

function inRange(numeric: readonly (string | number)[], value: number): boolean {
  for (let at = 0; at < numeric.length; at += 2)
    if (!COMPARISONS[numeric[at] as string]!(value, numeric[at + 1] as number)) return false;
  return true;
}

function listProblem(rules: readonly unknown[], name: string): string | undefined {
  if (rules.length === 0) return `${name} allows nothing; leave it out, or name a value`;
  for (const rule of rules) {
    const problem = ruleProblem(rule);
    if (problem !== undefined) return `${name}: ${problem}`;
  }
  return undefined;
}

function ruleProblem(rule: unknown): string | undefined {
  if (rule === null || ["string", "number", "boolean"].includes(typeof rule)) return undefined;
  const [[kind, operand] = [], ...others] = isObject(rule) ? Object.entries(rule) : [];
  const known = "it must be a value or one of prefix, suffix, exists, anything-but, numeric";
  if (kind === undefined || others.length > 0) return known;
  if (kind === "prefix" || kind === "suffix")
    return typeof operand === "string" ? undefined : `${kind} needs a text`;
  if (kind === "exists") return typeof operand === "boolean" ? undefined : "exists needs true or false";
  if (kind === "anything-but") return Array.isArray(operand) ? undefined : "anything-but needs a list";
  if (kind !== "numeric") return known;
  const isPair = (at: number, list: readonly unknown[]): boolean =>
    Object.hasOwn(COMPARISONS, String(list[at])) && typeof list[at + 1] === "number";
  const isList = Array.isArray(operand) && operand.length > 0 && operand.length % 2 === 0;
  const fine = isList && operand.every((_, at) => at % 2 === 1 || isPair(at, operand));
  return fine ? undefined : 'numeric needs pairs such as [">", 0, "<=", 10]';
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
