import { InvalidArgumentError } from "./errors";

// biome-ignore lint/suspicious/noControlCharactersInRegex: these are the characters that servers refuse.
const FORBIDDEN_CHARACTERS = /[\u0000-\u001f\u007f-\u009f\ud800-\uf8ff\ufff0-\uffff]/;

const SLASH = 0x2f;
const DOT = 0x2e;
const FIRST_PRINTABLE = 0x20;
const LAST_PRINTABLE = 0x7e;

/** Whether a path is sound beyond doubt: printable ASCII without empty names or names that begin with a dot. */
function isPlain(path: string): boolean {
  let previous = 0;
  for (let index = 0; index < path.length; index += 1) {
    const code = path.charCodeAt(index);
    if (code < FIRST_PRINTABLE || code > LAST_PRINTABLE) return false;
    if (previous === SLASH && (code === SLASH || code === DOT)) return false;
    previous = code;
  }
  return path.length > 1 && path.charCodeAt(0) === SLASH && previous !== SLASH;
}

/** What is wrong with a znode's path, or undefined: the rules of the servers' PathUtils.validatePath. */
export function pathProblem(path: unknown): string | undefined {
  if (typeof path !== "string") return `must be a string, it is ${typeof path}`;
  if (isPlain(path)) return undefined;
  if (path === "") return "must not be empty";
  if (path[0] !== "/") return 'must begin with "/"';
  if (path.length === 1) return undefined;
  if (path.endsWith("/")) return 'must not end with "/"';
  if (path.includes("//")) return "must not contain an empty name";
  if (path.includes("/.")) {
    const relative = path.split("/").find((name) => name === "." || name === "..");
    if (relative !== undefined) return `must not contain "${relative}"`;
  }
  const bad = FORBIDDEN_CHARACTERS.exec(path);
  if (bad === null) return undefined;
  const code = bad[0].charCodeAt(0).toString(16).padStart(4, "0").toUpperCase();
  return `must not contain the character U+${code} (at ${bad.index})`;
}

/**
 * Rejects a path that the server would reject, with a reason. A sequential create may end with a slash, because
 * the server appends ten digits before it looks.
 */
export function checkPath(path: string, isSequential = false): void {
  const problem = pathProblem(isSequential && typeof path === "string" ? `${path}1` : path);
  if (problem === undefined) return;
  throw new InvalidArgumentError(
    `${JSON.stringify(path)} is not a znode's path: it ${problem}. Paths look like /a/b.`,
    "terminal",
    undefined,
    path,
  );
}

/** The path as the server knows it. */
export function withChroot(chroot: string, path: string): string {
  if (chroot === "") return path;
  return path === "/" ? chroot : chroot + path;
}

/** The path as the user knows it. */
export function withoutChroot(chroot: string, path: string): string {
  if (chroot === "") return path;
  return path.length === chroot.length ? "/" : path.slice(chroot.length);
}
