import { InvalidArgumentError } from "./errors";

/** What the server's PathUtils.validatePath refuses: control characters, surrogates alone, specials. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is looked for
const FORBIDDEN_CHARACTERS = /[\u0000-\u001f\u007f-\u009f\ud800-\uf8ff\ufff0-\uffff]/;

/**
 * Rejects a path that the server would reject, with a reason. A sequential create may end with a slash, because
 * the server appends ten digits before it looks.
 */
export function checkPath(path: string, isSequential = false): void {
  const reason = reasonAgainst(isSequential ? `${path}1` : path);
  if (reason === undefined) return;
  throw new InvalidArgumentError(
    `The path ${JSON.stringify(path)} is not a znode's path: ${reason}. Paths look like /a/b.`,
    "terminal",
    undefined,
    path,
  );
}

function reasonAgainst(path: string): string | undefined {
  if (typeof path !== "string" || path.length === 0) return "it is empty";
  if (path[0] !== "/") return "it does not begin with a slash";
  if (path.length === 1) return undefined;
  if (path.endsWith("/")) return "it ends with a slash";
  if (path.includes("//")) return "it has an empty part";
  if (path.includes("/.") && path.split("/").some((part) => part === "." || part === "..")) {
    return "it has a relative part";
  }
  const match = FORBIDDEN_CHARACTERS.exec(path);
  return match ? `it has the character U+${match[0].charCodeAt(0).toString(16).padStart(4, "0")}` : undefined;
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
