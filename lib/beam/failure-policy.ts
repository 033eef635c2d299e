import { PipelineDefinitionError } from "./errors";
import { elementText } from "./operators/user-code";

/** What happens to an element, a timer or a pane that the functions of a pipeline fail on. */
export interface FailureOptions {
  /**
   * How often a bundle is tried before what fails is looked for; 1 means no second time, Infinity leaves it to
   * `maxAgeMs`. The pauses between grow from 0.1 s to 30 s. Default: 8, which takes about ten seconds.
   */
  readonly maxAttempts?: number;
  /** How long a bundle is tried at most, in ms since it first failed. Default: 3,600,000 (an hour). */
  readonly maxAgeMs?: number;
  /**
   * `dead-letter` puts what fails alone aside, where `beamkeeper dead-letter` finds it, and goes on behind it. `stop`
   * processes what comes before it and tries it again and again; the shard stands still meanwhile. Default: "dead-letter".
   */
  readonly onExhausted?: "dead-letter" | "stop";
  /** A shard with this many dead letters stops as with `stop`. Default: 1,000; at most 10,000. */
  readonly maxDeadLetters?: number;
}

export type FailurePolicy = Required<FailureOptions>;

const DEFAULTS: FailurePolicy = {
  maxAttempts: 8,
  maxAgeMs: 3_600_000,
  onExhausted: "dead-letter",
  maxDeadLetters: 1_000,
};

// A listing of more would come near jute.maxbuffer (1 MB).
const MAX_DEAD_LETTERS = 10_000;

/** The options with their defaults; throws PipelineDefinitionError. */
export function failurePolicy(pipeline: string, options: FailureOptions = {}): FailurePolicy {
  const refuse = (what: string): never => {
    throw new PipelineDefinitionError(`pipeline "${pipeline}": ${what}`);
  };
  if (typeof options !== "object" || options === null)
    refuse(`failures must be an object; it is ${elementText(options)}`);
  for (const name of Object.keys(options))
    if (!(name in DEFAULTS))
      refuse(`failures has no option "${name}"; it has ${Object.keys(DEFAULTS).join(", ")}`);
  const given = Object.entries(options).filter(([, value]) => value !== undefined);
  const policy: FailurePolicy = { ...DEFAULTS, ...Object.fromEntries(given) };
  const whole = (name: keyof FailurePolicy, max: number): void => {
    const value = policy[name];
    if (typeof value === "number" && value >= 1 && value <= max && (Number.isInteger(value) || value === max))
      return;
    const range = max === Number.POSITIVE_INFINITY ? "from 1, or Infinity" : `from 1 to ${max}`;
    refuse(`failures.${name} must be a whole number ${range}; it is ${elementText(value)}`);
  };
  whole("maxAttempts", Number.POSITIVE_INFINITY);
  whole("maxAgeMs", Number.POSITIVE_INFINITY);
  whole("maxDeadLetters", MAX_DEAD_LETTERS);
  if (policy.onExhausted !== "dead-letter" && policy.onExhausted !== "stop")
    refuse(`failures.onExhausted must be "dead-letter" or "stop"; it is ${elementText(policy.onExhausted)}`);
  return Object.freeze(policy);
}
