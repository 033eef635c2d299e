import type { Plugin } from "esbuild";

export declare function beamPlugin(): Plugin;
