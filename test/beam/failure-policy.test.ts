import { definePipeline, type FailureOptions, PipelineDefinitionError } from "../../lib/index";

const policyOf = (failures?: FailureOptions) =>
  definePipeline({ name: "p", build: () => undefined, ...(failures ? { failures } : {}) }).failures;

test("the defaults, and each option by itself", () => {
  const defaults = { maxAttempts: 8, maxAgeMs: 3_600_000, onExhausted: "dead-letter", maxDeadLetters: 1_000 };
  expect(policyOf()).toEqual(defaults);
  expect(policyOf({ maxAttempts: 1 })).toEqual({ ...defaults, maxAttempts: 1 });
  expect(policyOf({ maxAttempts: Number.POSITIVE_INFINITY, onExhausted: "stop" })).toEqual({
    ...defaults,
    maxAttempts: Number.POSITIVE_INFINITY,
    onExhausted: "stop",
  });
});

test.each([
  [{ maxAttempts: 0 }, /failures\.maxAttempts must be a whole number from 1, or Infinity; it is 0/],
  [{ maxAttempts: 1.5 }, /it is 1\.5/],
  [{ maxAgeMs: Number.NaN }, /failures\.maxAgeMs .* it is NaN/],
  [{ maxDeadLetters: 10_001 }, /failures\.maxDeadLetters must be a whole number from 1 to 10000/],
  [{ onExhausted: "ignore" }, /failures\.onExhausted must be "dead-letter" or "stop"; it is 'ignore'/],
  [{ attempts: 3 }, /failures has no option "attempts"; it has maxAttempts, maxAgeMs/],
  ["never", /failures must be an object; it is 'never'/],
])("%j is refused", (failures, message) => {
  const define = () => policyOf(failures as FailureOptions);
  expect(define).toThrow(PipelineDefinitionError);
  expect(define).toThrow(message);
});
