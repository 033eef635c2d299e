/** One line of the report. `error`: a deployment would not work. */
export interface Finding {
  readonly level: "ok" | "warning" | "error";
  /** What was looked at. */
  readonly about: string;
  readonly text: string;
  /** What to do; of every warning and error. */
  readonly remedy?: string;
}

export const ok = (about: string, text: string): Finding => ({ level: "ok", about, text });
export const failure = (about: string, text: string, remedy: string): Finding => ({
  level: "error",
  about,
  text,
  remedy,
});
export const warning = (about: string, text: string, remedy: string): Finding => ({
  level: "warning",
  about,
  text,
  remedy,
});
