import { compilePipeline } from "../../../lib/index";
import definition from "./closures-pipeline";
import { runClosures } from "./run-closures";

/** The entry of the bundle that the test runs in a process of its own. */
process.stdout.write(JSON.stringify(runClosures(compilePipeline(definition))));
