/** A file name or a pattern of names, with slashes between folders. */
export interface FilePattern {
  /** What all names begin with that it stands for. */
  readonly prefix: string;
  /** Undefined where it is the name of one file. */
  readonly matches: RegExp | undefined;
  /** It stands for the files in a folder: `logs/`. */
  readonly isFolder: boolean;
}

const SPECIAL = /[*?]/;

/**
 * `*` is any text without a slash, `**` any text (and with a slash behind it also none), `?` any character but a slash.
 * As in a shell, a wildcard at the beginning of a name stands for no dot: hidden files have to be named.
 */
export function parsePattern(pattern: string): FilePattern {
  const isFolder = pattern.endsWith("/");
  const whole = isFolder ? `${pattern}*` : pattern;
  const first = whole.search(SPECIAL);
  if (first < 0) return { prefix: whole, matches: undefined, isFolder };
  const source = whole.replace(/\*\*\/|\*\*|\*|\?|[^*?]+/g, (part, at: number) => {
    const isStart = at === 0 || whole[at - 1] === "/";
    const visible = isStart ? "(?!\\.)" : "";
    if (part === "**/") return "(?:(?!\\.)[^/]+/)*";
    if (part === "**") return `${visible}(?:[^/]|/(?!\\.))*`;
    if (part === "*") return `${visible}[^/]*`;
    if (part === "?") return `${visible}[^/]`;
    return part.replace(/[\\^$.|+()[\]{}]/g, "\\$&");
  });
  return { prefix: whole.slice(0, first), matches: new RegExp(`^${source}$`, "s"), isFolder };
}

/** Orders names in the same way everywhere, whatever the language of the machine. */
export function byName(a: { readonly name: string }, b: { readonly name: string }): number {
  if (a.name === b.name) return 0;
  return a.name < b.name ? -1 : 1;
}
