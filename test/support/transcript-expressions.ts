import type { Trigger } from "../../lib/beam/engine/trigger";
import { intervalWindow, isMerging, type WindowFn } from "../../lib/beam/engine/windows";

/** `Name(argument, ..., keyword=argument)`; parentheses without arguments may be left out, and modules before names. */
export interface Expression {
  readonly name: string;
  readonly args: readonly Argument[];
  readonly keywords: Readonly<Record<string, Argument>>;
}

export type Argument = Expression | number | string | undefined;

const TOKEN =
  /\s*(?:(\d[\d_]*(?:\.\d*)?(?:[eE][-+]?\d+)?|\.\d+)|([A-Za-z_][\w.]*)|('[^']*'|"[^"]*")|([(),=*/+-]))/y;

interface Token {
  readonly kind: "number" | "name" | "text" | "sign" | "end";
  readonly text: string;
  readonly at: number;
}

function tokensOf(text: string): Token[] {
  const tokens: Token[] = [];
  TOKEN.lastIndex = 0;
  for (let at = 0; text.slice(at).trim() !== ""; at = TOKEN.lastIndex) {
    TOKEN.lastIndex = at;
    const match = TOKEN.exec(text);
    if (match === null) throw new Error(`"${text}": "${text.slice(at).trim()}" can't be read`);
    const kind = (["number", "name", "text", "sign"] as const).find((_, i) => match[i + 1] !== undefined)!;
    tokens.push({ kind, text: match[0].trim(), at });
  }
  return [...tokens, { kind: "end", text: "", at: text.length }];
}

/** As in Python: numbers may be calculated, as in `FixedWindows(10 * 60)`. */
class Parser {
  private position = 0;
  private readonly tokens: readonly Token[];

  constructor(private readonly text: string) {
    this.tokens = tokensOf(text);
  }

  whole(): Expression {
    const result = this.argument();
    if (typeof result !== "object" || this.next.kind !== "end") this.refuse();
    return result as Expression;
  }

  private get next(): Token {
    return this.tokens[this.position]!;
  }

  private take(sign: string): boolean {
    if (this.next.kind !== "sign" || this.next.text !== sign) return false;
    this.position++;
    return true;
  }

  private argument(): Argument {
    const { kind, text } = this.next;
    if (kind === "name") {
      this.position++;
      if (text === "None") return undefined;
      return this.call(text.slice(text.lastIndexOf(".") + 1));
    }
    if (kind !== "text") return this.sum();
    this.position++;
    return text.slice(1, -1);
  }

  private call(name: string): Expression {
    const args: Argument[] = [];
    const keywords: Record<string, Argument> = {};
    if (!this.take("(")) return { name, args, keywords };
    while (!this.take(")")) {
      const after = this.tokens[this.position + 1];
      if (this.next.kind === "name" && after?.text === "=") {
        const keyword = this.next.text;
        this.position += 2;
        keywords[keyword] = this.argument();
      } else args.push(this.argument());
      if (!this.take(",") && this.next.text !== ")") this.refuse();
    }
    return { name, args, keywords };
  }

  private sum(): number {
    let value = this.product();
    for (;;) {
      if (this.take("+")) value += this.product();
      else if (this.take("-")) value -= this.product();
      else return value;
    }
  }

  private product(): number {
    let value = this.number();
    for (;;) {
      if (this.take("*")) value *= this.number();
      else if (this.take("/")) value /= this.number();
      else return value;
    }
  }

  private number(): number {
    if (this.take("-")) return -this.number();
    if (this.take("+")) return this.number();
    if (this.take("(")) {
      const value = this.sum();
      if (!this.take(")")) this.refuse();
      return value;
    }
    if (this.next.kind !== "number") this.refuse();
    return Number(this.tokens[this.position++]!.text.replaceAll("_", ""));
  }

  private refuse(): never {
    const { kind, text, at } = this.next;
    const what = kind === "end" ? "it ends too early" : `${text} at character ${at + 1} is out of place`;
    throw new Error(`"${this.text}": ${what}`);
  }
}

export function parseExpression(text: unknown): Expression {
  if (typeof text !== "string") throw new Error(`${JSON.stringify(text)} is no expression`);
  return new Parser(text).whole();
}

/** A number in seconds, as milliseconds. */
function ms({ name, args, keywords }: Expression, index: number, keyword: string, fallback?: number): number {
  const value = args[index] ?? keywords[keyword] ?? fallback;
  if (typeof value === "number") return value * 1000;
  throw new Error(`${name} needs ${keyword}`);
}

export function toWindowFn(expression: Expression): WindowFn {
  const { name, args, keywords } = expression;
  switch (name) {
    case "GlobalWindow":
    case "GlobalWindows":
      return { kind: "global" };
    case "FixedWindows":
      return { kind: "fixed", sizeMs: ms(expression, 0, "size"), offsetMs: ms(expression, 1, "offset", 0) };
    case "SlidingWindows":
      return {
        kind: "sliding",
        sizeMs: ms(expression, 0, "size"),
        periodMs: ms(expression, 1, "period"),
        offsetMs: ms(expression, 2, "offset", 0),
      };
    case "Sessions":
      return { kind: "sessions", gapMs: ms(expression, 0, "gap_size", keywords.gap as number | undefined) };
    case "CalendarDays":
    case "CalendarMonths":
    case "CalendarYears": {
      const unit = name.slice(8).toLowerCase() as "days";
      const [year, month, day] = String(keywords.start ?? "1970-01-01")
        .split("-")
        .map(Number);
      const from = { year: year!, month: month!, day: day! };
      const timeZone = String(keywords.time_zone ?? "UTC");
      return { kind: "calendar", unit, count: Number(args[0] ?? 1), from, timeZone };
    }
    default:
      return customWindowFn(expression);
  }
}

function customWindowFn(expression: Expression): WindowFn {
  // A user's own windows of a fixed size.
  if (expression.name === "CustomWindows" || expression.name === "CustomTimestampingFixedWindowsWindowFn") {
    const size = ms(expression, 0, "size");
    const assign = (time: number) => {
      const start = Math.floor(time / size) * size;
      return [intervalWindow(start, start + size)];
    };
    return { kind: "custom", name: "custom", assign };
  }
  // A user's own windows that all become one, however far apart.
  if (expression.name === "CustomMergingWindows") {
    const size = ms(expression, 0, "size");
    return {
      kind: "custom",
      name: "merging",
      assign: (time) => [intervalWindow(time, time + size)],
      merge: (windows) => {
        const startMs = Math.min(...windows.map((window) => window.startMs));
        const endMs = Math.max(...windows.map((window) => window.endMs));
        return [{ from: windows, to: intervalWindow(startMs, endMs) }];
      },
    };
  }
  throw new Error(`the window function ${expression.name} is unknown`);
}

/** The names that a transcript's conditions use. */
export function windowTags(windowFn: WindowFn): string[] {
  const merges = isMerging(windowFn) ? ["merges"] : [];
  if (windowFn.kind === "custom") return [windowFn.merge === undefined ? "custom" : "merging", ...merges];
  return [windowFn.kind, ...merges];
}

function count({ name, args, keywords }: Expression): number {
  const value = args[0] ?? keywords.count;
  if (typeof value === "number" && Number.isInteger(value) && value >= 1) return value;
  throw new Error(`${name} needs a number of elements`);
}

export function toTrigger(expression: Expression): Trigger {
  const { name, args, keywords } = expression;
  const part = (argument: Argument | undefined): Trigger => {
    if (typeof argument !== "object") throw new Error(`${name} needs a trigger, not ${String(argument)}`);
    return toTrigger(argument);
  };
  const optional = (keyword: "early" | "late", index: number) => {
    const given = keywords[keyword] ?? args[index];
    return given === undefined ? {} : { [keyword]: part(given) };
  };
  const parts = (): Trigger[] => {
    if (args.length === 0) throw new Error(`${name} needs triggers`);
    return args.map(part);
  };
  switch (name) {
    case "Default":
    case "DefaultTrigger":
      return { kind: "default" };
    case "Always":
      return { kind: "always" };
    case "Never":
      return { kind: "never" };
    case "AfterCount":
    case "ElementCount":
      return { kind: "elementCount", count: count(expression) };
    case "AfterProcessingTime": {
      const transforms = [{ kind: "delay", delayMs: ms(expression, 0, "delay", 0) } as const];
      if (keywords.align_to === undefined) return { kind: "afterProcessingTime", transforms };
      const align = { kind: "alignTo", periodMs: Number(keywords.align_to) * 1000, offsetMs: 0 } as const;
      return { kind: "afterProcessingTime", transforms: [...transforms, align] };
    }
    case "AfterSynchronizedProcessingTime":
      return { kind: "afterSynchronizedProcessingTime" };
    case "AfterWatermark":
    case "AfterEndOfWindow":
      return { kind: "afterEndOfWindow", ...optional("early", 0), ...optional("late", 1) };
    case "AfterAll":
      return { kind: "afterAll", parts: parts() };
    case "AfterAny":
    case "AfterFirst":
      return { kind: "afterAny", parts: parts() };
    case "AfterEach":
      return { kind: "afterEach", parts: parts() };
    case "OrFinally":
      return {
        kind: "orFinally",
        main: part(args[0] ?? keywords.main),
        until: part(args[1] ?? keywords.until),
      };
    case "Repeatedly":
      return { kind: "repeatedly", part: part(args[0] ?? keywords.underlying) };
    default:
      throw new Error(`the trigger ${name} is unknown`);
  }
}
