/**
 * An execution environment of a bundled function: loads the bundle that its argument names and answers invocations
 * that come as messages {id, event} with {id, result} or {id, error}. `{id, evaluate}` evaluates a text, to
 * show whether the process can.
 */
const { handler } = require(process.argv[2]);

const context = { getRemainingTimeInMillis: () => 900_000 };

process.on("message", async ({ id, event, evaluate }) => {
  try {
    // biome-ignore lint/security/noGlobalEval: whether this is possible is what is asked
    const result = evaluate === undefined ? await handler(event, context) : eval(evaluate);
    process.send({ id, result });
  } catch ({ name, message }) {
    process.send({ id, error: { errorType: name, errorMessage: message } });
  }
});
process.on("disconnect", () => process.exit());
