/**
 * `beamkeeper/register`: what the SDK needs of Node, and newer versions of Node have no longer. `beamkeeper` loads it
 * first of all; it is for programs that load `apache-beam` before, such as tests: `setupFiles: ["beamkeeper/register"]`
 * in Jest, or `node --import beamkeeper/register`.
 *
 * The SDK's `serialize-closures` calls `util.isPrimitive` when it is loaded, which Node 23 removed.
 */
import util = require("node:util");

const known: { isPrimitive?: (value: unknown) => boolean } = util;

known.isPrimitive ??= (value) => value === null || (typeof value !== "object" && typeof value !== "function");
