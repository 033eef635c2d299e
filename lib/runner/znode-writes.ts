import type { SinkEffect } from "../beam/api";
import { reading } from "../checkpoint/commit";
import type { ConflictPolicy, ZnodeWritePayload } from "../io/write-to-znodes";
import type { Op, Stat, ZooKeeperClient } from "../zookeeper";

/** A write of the user's that cannot take effect as asked; the znode says something else than was expected. */
export class ZnodeConflictError extends Error {
  override readonly name = "ZnodeConflictError";
  readonly outcome = "retryable";
  constructor(
    readonly path: string,
    readonly transform: string,
    problem: string,
    readonly onConflict: ConflictPolicy = "fail",
  ) {
    super(
      `${transform}: ${path} ${problem}. Nothing of this bundle was committed. Mend the znode, or choose onConflict: "skip" or "dead-letter".`,
    );
  }
}

/** A write to a path that a pipeline must not write to. Terminal. */
export class ForbiddenWriteError extends Error {
  override readonly name = "ForbiddenWriteError";
  readonly outcome = "terminal";
}

/** What the writes of a bundle must stay away from. */
export interface WriteLimits {
  /** Beamkeeper's own root. */
  readonly root: string;
  /** Whether a path is watched by a source that has not allowed feedback. */
  readonly isWatched: (path: string) => boolean;
}

/**
 * Turns the pipeline's znode writes into operations for the commit, from what the znodes look like now. When the
 * commit answers that a znode changed in between, the plan is made again; the bundle is not run again. What is only
 * overwritten is not asked for again once it was found: where it is gone, the commit says so.
 */
export class ZnodeWrites {
  /** Znodes that were found; a refused commit clears it. */
  private readonly found = new Set<string>(["/"]);

  constructor(
    private readonly client: ZooKeeperClient,
    private readonly limits: WriteLimits,
  ) {}

  /** Forgets what it knows of the tree, because a commit found it otherwise. */
  forget(): void {
    this.found.clear();
    this.found.add("/");
  }

  /** The operations for these effects, in order; of several upserts of one path in a row the last one stays. */
  async plan(effects: readonly SinkEffect[]): Promise<Op[]> {
    const writes = lastUpserts(effects);
    for (const { payload, transform } of writes) this.requireAllowed(payload.path, transform);
    const asked = new Set<string>();
    const tree = new Map<string, Stat | null>();
    for (const { payload } of writes) {
      if (isPlain(payload) && this.found.has(payload.path)) tree.set(payload.path, NOT_ASKED_FOR);
      else asked.add(payload.path);
    }
    await Promise.all([...asked].map(async (path) => tree.set(path, await this.look(path))));
    const ops: Op[] = [];
    for (const write of writes) ops.push(...(await this.planOne(write, tree)));
    return ops;
  }

  private async planOne(write: ZnodeWrite, tree: Map<string, Stat | null>): Promise<Op[]> {
    const { path, mode, data, version } = write.payload;
    const stat = tree.get(path) ?? null;
    const problem = conflict(write.payload, stat);
    if (problem) {
      if (write.payload.onConflict === "skip") return [];
      throw new ZnodeConflictError(path, write.transform, problem, write.payload.onConflict);
    }
    if (mode === "delete") {
      tree.set(path, null);
      this.found.delete(path);
      return stat
        ? [version === undefined ? { type: "delete", path } : { type: "delete", path, version }]
        : [];
    }
    if (stat) {
      // What the next write of this bundle to the same znode will find.
      tree.set(path, { ...stat, version: stat.version + 1 });
      return [
        version === undefined ? { type: "setData", path, data } : { type: "setData", path, data, version },
      ];
    }
    const parents = await this.missingParents(write, tree);
    tree.set(path, CREATED_HERE);
    return [
      ...parents.map((parent): Op => ({ type: "create", path: parent, data: Buffer.alloc(0) })),
      { type: "create", path, data },
    ];
  }

  private async missingParents(
    { payload: { path }, transform }: ZnodeWrite,
    tree: Map<string, Stat | null>,
  ): Promise<string[]> {
    const missing: string[] = [];
    for (let parent = parentOf(path); !(await this.isThere(parent, tree)); parent = parentOf(parent)) {
      this.requireAllowed(parent, transform, path);
      missing.unshift(parent);
      tree.set(parent, CREATED_HERE);
    }
    return missing;
  }

  /** Whether the znode exists when the plan has come to it: what the plan does goes before what was there. */
  private async isThere(path: string, tree: ReadonlyMap<string, Stat | null>): Promise<boolean> {
    const planned = tree.get(path);
    if (planned !== undefined) return planned !== null;
    return this.found.has(path) || (await this.look(path)) !== null;
  }

  private async look(path: string): Promise<Stat | null> {
    const stat = await reading(this.client, () => this.client.exists(path));
    if (stat === null) return null;
    if (this.found.size >= MAX_FOUND) this.forget();
    this.found.add(path);
    return stat;
  }

  /** `child` is what the user asked for, where `path` is a parent that it needs. */
  private requireAllowed(path: string, transform: string, child?: string): void {
    const what = child === undefined ? path : `${path}, which would be created for ${child},`;
    if (path === this.limits.root || path.startsWith(`${this.limits.root}/`)) {
      throw new ForbiddenWriteError(
        `${transform}: ${what} lies below Beamkeeper's own root ${this.limits.root}; choose another path.`,
      );
    }
    if (this.limits.isWatched(path)) {
      throw new ForbiddenWriteError(
        `${transform}: ${what} lies at or below a path that this pipeline watches, so its results would trigger it again. ` +
          "Write elsewhere, or say that it is meant with allowFeedback: true in readZnodeChanges.",
      );
    }
  }
}

interface ZnodeWrite {
  readonly transform: string;
  readonly payload: ZnodeWritePayload;
}

// Enough for every pipeline that names its znodes; one that makes them up must not fill the memory.
const MAX_FOUND = 10_000;

// Stands in the plan's view of the tree for a znode that an earlier operation of the same multi creates.
const CREATED_HERE = { version: 0 } as Stat;

// The same for a znode whose version the plan does not need.
const NOT_ASKED_FOR = { version: -1 } as Stat;

function lastUpserts(effects: readonly SinkEffect[]): ZnodeWrite[] {
  const writes = effects.map(({ transform, payload }) => ({
    transform,
    payload: payload as ZnodeWritePayload,
  }));
  const next = new Map<string, ZnodeWrite>();
  const kept: ZnodeWrite[] = [];
  for (const write of writes.reverse()) {
    const later = next.get(write.payload.path);
    next.set(write.payload.path, write);
    if (!(isPlain(write.payload) && later && isPlain(later.payload))) kept.push(write);
  }
  return kept.reverse();
}

function isPlain({ mode, version }: ZnodeWritePayload): boolean {
  return mode === "upsert" && version === undefined;
}

function conflict({ mode, version }: ZnodeWritePayload, stat: Stat | null): string | undefined {
  if (mode === "create") return stat ? "exists already" : undefined;
  if (mode === "update" && !stat) return "does not exist";
  if (version === undefined) return undefined;
  if (!stat) return `does not exist, and version ${version} was expected`;
  return stat.version === version
    ? undefined
    : `has version ${stat.version}, and version ${version} was expected`;
}

function parentOf(path: string): string {
  const slash = path.lastIndexOf("/");
  return slash <= 0 ? "/" : path.slice(0, slash);
}

/** Whether the error of a user's operation means that the plan is out of date, so that it can be made again. */
export function isStalePlan(cause: unknown): boolean {
  return cause instanceof Error && ["NodeExistsError", "NoNodeError", "BadVersionError"].includes(cause.name);
}
