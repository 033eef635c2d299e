import type { Trigger } from "../../lib/beam/engine/trigger";
import { intervalWindow, isMerging, type WindowFn } from "../../lib/beam/engine/windows";

/** `Name(argument, ..., keyword=argument)`; parentheses without arguments may be left out. */
export interface Expression {
  readonly name: string;
  readonly args: readonly Argument[];
  readonly keywords: Readonly<Record<string, Argument>>;
}

type Argument = Expression | number | string;

export function parseExpression(text: string): Expression {
  const tokens = text.match(/[A-Za-z_]\w*|-?\d+(?:\.\d+)?|'[^']*'|"[^"]*"|[(),=]/g) ?? [];
  if (tokens.join("") !== text.replace(/\s+/g, "") && !/['"]/.test(text))
    throw new Error(`"${text}" is no expression`);
  let position = 0;
  const take = (token: string): boolean => {
    if (tokens[position] !== token) return false;
    position++;
    return true;
  };
  const argument = (): Argument => {
    const token = tokens[position++];
    if (token === undefined) throw new Error(`"${text}" ends too early`);
    if (/^['"]/.test(token)) return token.slice(1, -1);
    if (/^-?\d/.test(token)) return Number(token);
    if (!/^\w/.test(token)) throw new Error(`"${text}": ${token} is out of place`);
    return call(token);
  };
  const call = (name: string): Expression => {
    const args: Argument[] = [];
    const keywords: Record<string, Argument> = {};
    if (take("(")) {
      while (!take(")")) {
        if (tokens[position + 1] === "=") {
          const keyword = tokens[position]!;
          position += 2;
          keywords[keyword] = argument();
        } else args.push(argument());
        if (!take(",") && tokens[position] !== ")") throw new Error(`"${text}" lacks a parenthesis`);
      }
    }
    return { name, args, keywords };
  };
  const result = argument();
  if (position < tokens.length || typeof result !== "object") throw new Error(`"${text}" is no expression`);
  return result;
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

export function toTrigger(expression: Expression): Trigger {
  const { name, args, keywords } = expression;
  const part = (argument: Argument | undefined): Trigger => {
    if (typeof argument !== "object") throw new Error(`${name} needs a trigger, not ${String(argument)}`);
    return toTrigger(argument);
  };
  const optional = (keyword: "early" | "late") =>
    keywords[keyword] === undefined ? {} : { [keyword]: part(keywords[keyword]) };
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
      return { kind: "elementCount", count: Number(args[0] ?? keywords.count) };
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
      return { kind: "afterEndOfWindow", ...optional("early"), ...optional("late") };
    case "AfterAll":
      return { kind: "afterAll", parts: args.map(part) };
    case "AfterAny":
    case "AfterFirst":
      return { kind: "afterAny", parts: args.map(part) };
    case "AfterEach":
      return { kind: "afterEach", parts: args.map(part) };
    case "OrFinally":
      return { kind: "orFinally", main: part(args[0]), until: part(args[1]) };
    case "Repeatedly":
      return { kind: "repeatedly", part: part(args[0]) };
    default:
      throw new Error(`the trigger ${name} is unknown`);
  }
}
