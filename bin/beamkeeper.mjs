#!/usr/bin/env node
// The command of the installed package. Pipelines are TypeScript files of the user's, which tsx loads.
import "tsx";

await import("../dist/lib/cli/main.js");
