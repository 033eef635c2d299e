import type { BuildOptions } from "esbuild";

declare function functionBuildOptions(): BuildOptions;

export = functionBuildOptions;
