import { segmentLength } from "../checkpoint/blobs";
import { decodeGraph } from "../checkpoint/graph";
import { encodeName, type PipelineLayout, segmentNames } from "../checkpoint/layout";
import { decodeCursor, decodeGeneration, decodeHead, type Head, NEW_HEAD } from "../checkpoint/records";
import type { LoggedOp, LoggedTransaction } from "../zookeeper/transaction-log";

/** What a transaction log proves of one pipeline. `problems` is empty when every rule held. */
export interface Audit {
  readonly transactions: number;
  /** Multis that write a head, and those that write a cursor. */
  readonly bundleCommits: number;
  readonly relayCommits: number;
  readonly segments: number;
  /** Elements that were appended to inboxes, over all stages, and how many of them were consumed. */
  readonly elementsAppended: number;
  readonly elementsConsumed: number;
  /** Segments that were not consumed whole when the log ended. */
  readonly waiting: number;
  /** The ids of all commits that took effect. */
  readonly commitIds: ReadonlySet<string>;
  readonly problems: readonly string[];
}

interface Segment {
  readonly elements: number;
  consumed: number;
}

interface Shard {
  head: Head;
  readonly inbox: Map<string, Segment>;
}

type Kind =
  | "bundle"
  | "relay"
  | "events"
  | "control"
  | "letters"
  | "files"
  | "creation"
  | "build"
  | "removal"
  | "none";

const EPOCH = /^.*\/epochs\/\d+$/;
const HEAD = /^(.*\/epochs\/\d+\/stages\/[^/]+\/\d+)$/;
const CURSOR = /^.*\/epochs\/\d+\/sources\/[^/]+$/;
const SEGMENT = /^(.*\/epochs\/\d+\/stages\/[^/]+\/\d+)\/inbox\/([^/]+)$/;
/** What a source of events has taken. */
const TAKEN = /^(.*\/epochs\/\d+\/sources\/[^/]+)\/ids\/\d+$/;
const COMMITS: ReadonlySet<Kind> = new Set(["bundle", "relay", "events", "letters", "files"]);
const MOST_PROBLEMS = 100;

/**
 * Proves from the servers' own log that a pipeline took effect exactly once. It replays the transactions that touch
 * the pipeline's znodes, and knows nothing of what the functions believe that they did. The rules:
 *
 * 1. A segment is consumed only by a multi that writes the head of its own shard, oldest first, each element once:
 *    deleted when it is consumed whole, or passed by the position in the head.
 * 2. Such a multi checks the generation that is current, and its head continues the one before it: the next number, a
 *    commit id that was never used, the ids of its predecessors behind it.
 * 3. Segments, state, dead letters and entries for files are made only in such a multi, in the relay's (which writes a
 *    cursor by the same rules), in one that takes events (which writes down what it has taken, and checks that the
 *    watermark is the one that it knows), or in an operator's (which changes or checks the generation).
 * 4. A generation that is not running or draining admits no commits.
 * 5. An epoch is built only while the pipeline is paused, in multis that check that; when the generation goes over to
 *    it, as many elements wait for each stage that goes on as in the epoch before. From then on nothing is made in the old one.
 *
 * The log has to begin before the pipeline did: at the first transaction of the ensemble, or a server that was not
 * purged since.
 */
export function audit(transactions: Iterable<LoggedTransaction>, layout: PipelineLayout): Audit {
  const auditor = new Auditor(layout);
  for (const transaction of transactions) auditor.take(transaction);
  return auditor.result();
}

class Auditor {
  private readonly problems: string[] = [];
  private readonly versions = new Map<string, number>();
  private readonly shards = new Map<string, Shard>();
  private readonly cursors = new Map<string, { number: number; ids: readonly string[] }>();
  private readonly commitIds = new Set<string>();
  private state = "";
  private epoch = 0;
  /** Of epochs that an update has built: the names of stages that go on, and those of before. */
  private readonly continued = new Map<number, readonly (readonly [string, string])[]>();
  private readonly counts = {
    transactions: 0,
    bundleCommits: 0,
    relayCommits: 0,
    segments: 0,
    elementsAppended: 0,
    elementsConsumed: 0,
  };

  constructor(private readonly layout: PipelineLayout) {}

  take(transaction: LoggedTransaction): void {
    this.counts.transactions += 1;
    const ours = transaction.ops.filter((op) => "path" in op && this.isOurs(op.path));
    if (ours.length === 0) return;
    const problem = (text: string): void => this.complain(transaction.zxid, text);
    const kind = this.kindOf(transaction, ours);
    if (!transaction.isMulti) this.requireHarmless(ours, problem);
    if (COMMITS.has(kind)) this.requireGeneration(ours, kind, problem);
    if (kind === "events") this.requireCursor(ours, problem);
    if (kind === "build") this.requireFrozen(ours, problem);
    if (kind === "bundle") this.takeBundle(ours, problem);
    if (kind === "relay") this.takeRelay(ours, problem);
    this.requireKind(ours, kind, problem);
    for (const op of ours) this.apply(op, kind, problem);
  }

  result(): Audit {
    const inboxes = [...this.shards.values()].flatMap(({ inbox }) => [...inbox.values()]);
    return { ...this.counts, waiting: inboxes.length, commitIds: this.commitIds, problems: this.problems };
  }

  private complain(zxid: bigint, text: string): void {
    if (this.problems.length < MOST_PROBLEMS) this.problems.push(`zxid 0x${zxid.toString(16)}: ${text}`);
  }

  private isOurs(path: string): boolean {
    return path === this.layout.path || path.startsWith(`${this.layout.path}/`);
  }

  private kindOf({ isMulti }: LoggedTransaction, ops: readonly LoggedOp[]): Kind {
    const sets = (pattern: RegExp): boolean =>
      ops.some((op) => op.type === "setData" && pattern.test(op.path));
    const changesGeneration = ops.some((op) => op.type !== "check" && isAt(op, this.layout.generation));
    if (changesGeneration) return ops.some((op) => op.type === "create") ? "creation" : "control";
    if (!isMulti) return "none";
    const epochs = ops.flatMap((op) => (op.type === "check" || op.type === "other" ? [] : epochOf(op.path)));
    if (epochs.length > 0 && !epochs.includes(this.epoch))
      return ops.every(({ type }) => type === "delete") ? "removal" : "build";
    if (sets(HEAD)) return "bundle";
    if (sets(CURSOR)) return "relay";
    if (sets(TAKEN) && ops.some((op) => op.type === "create" && SEGMENT.test(op.path))) return "events";
    const deletes = ops.filter((op) => op.type === "delete");
    if (deletes.some(({ path }) => path.includes("/dead-letter/"))) return "letters";
    if (deletes.length > 0 && deletes.every(({ path }) => path.includes("/outputs/"))) return "files";
    return "none";
  }

  /** What is not a multi may create parents and ephemerals, and change the generation; nothing else. */
  private requireHarmless(ops: readonly LoggedOp[], problem: (text: string) => void): void {
    for (const op of ops) {
      if (op.type === "other" || isAt(op, this.layout.generation)) continue;
      const isParent = op.type === "create" && op.data.length === 0 && !SEGMENT.test(op.path);
      if (
        op.type === "create" ? !(op.isEphemeral || isParent) : EFFECTS.some((part) => op.path.includes(part))
      )
        problem(`a single ${op.type} of ${op.path}, outside every commit`);
      else if (op.type === "setData" && (HEAD.test(op.path) || CURSOR.test(op.path)))
        problem(`${op.path} was written by itself, outside every commit`);
    }
  }

  private requireGeneration(ops: readonly LoggedOp[], kind: Kind, problem: (text: string) => void): void {
    const current = this.versions.get(this.layout.generation);
    const check = ops.find((op) => op.type === "check" && op.path === this.layout.generation);
    if (check?.type !== "check") problem(`${kind} commit without a check of the generation`);
    else if (check.version !== current)
      problem(`${kind} commit checked version ${check.version} of the generation, which is ${current}`);
    if (this.state !== "running" && this.state !== "draining")
      problem(`${kind} commit while the pipeline was ${this.state}`);
  }

  /** Records are appended with the watermark that they were given their times by, and to a source that has not ended. */
  private requireCursor(ops: readonly LoggedOp[], problem: (text: string) => void): void {
    if (this.state === "draining") problem("records were taken while the pipeline was draining");
    for (const op of ops) {
      const path = op.type === "setData" ? TAKEN.exec(op.path)?.[1] : undefined;
      if (path === undefined) continue;
      const check = ops.find((each) => each.type === "check" && each.path === path);
      if (check?.type !== "check" || check.version !== this.versions.get(path))
        problem(`records were taken without a check of ${path}`);
    }
  }

  private requireFrozen(ops: readonly LoggedOp[], problem: (text: string) => void): void {
    const check = ops.find((op) => op.type === "check" && op.path === this.layout.generation);
    if (check?.type !== "check" || check.version !== this.versions.get(this.layout.generation))
      problem("an epoch was built without a check of the generation");
    if (this.state !== "paused") problem(`an epoch was built while the pipeline was ${this.state}`);
    for (const op of ops)
      if (op.type !== "check" && op.type !== "other" && epochOf(op.path).some((epoch) => epoch < this.epoch))
        problem(`${op.path} was changed after its epoch`);
  }

  /** The generation goes over to an epoch: what waited in the one before waits there. */
  private takeEpoch(epoch: number, problem: (text: string) => void): void {
    if (epoch === this.epoch) return;
    const before = this.waitingIn(this.epoch);
    const now = this.waitingIn(epoch);
    const stages =
      this.continued.get(epoch) ?? [...new Set([...before.keys(), ...now.keys()])].map((id) => [id, id]);
    for (const [stage, old] of this.epoch === 0 ? [] : stages)
      if (before.get(old) !== now.get(stage))
        problem(
          `${before.get(old) ?? 0} elements waited for ${old}, in epoch ${epoch} ${now.get(stage) ?? 0}`,
        );
    for (const path of this.shards.keys()) if (epochOf(path)[0]! < epoch) this.shards.delete(path);
    this.epoch = epoch;
  }

  /** Elements that wait, by stage. */
  private waitingIn(epoch: number): Map<string, number> {
    const waiting = new Map<string, number>();
    for (const [path, { inbox }] of this.shards) {
      if (epochOf(path)[0] !== epoch) continue;
      const stage = path.split("/").at(-2)!;
      const here = [...inbox.values()].reduce((sum, { elements, consumed }) => sum + elements - consumed, 0);
      waiting.set(stage, (waiting.get(stage) ?? 0) + here);
    }
    return waiting;
  }

  private takeBundle(ops: readonly LoggedOp[], problem: (text: string) => void): void {
    const heads = ops.filter((op) => op.type === "setData" && HEAD.test(op.path));
    if (heads.length !== 1) problem(`one commit writes ${heads.length} heads`);
    const op = heads[0]!;
    if (op.type !== "setData") return;
    const shard = this.shardAt(op.path);
    const next = decodeHead(op.data, op.path);
    this.takeHead(op.path, shard, next, problem);
    this.takeConsumption(op.path, shard, next, ops, problem);
    shard.head = next;
  }

  /** A head continues its predecessor. One with the same number only notes a failure, and consumes nothing. */
  private takeHead(path: string, { head }: Shard, next: Head, problem: (text: string) => void): void {
    if (next.number === head.number && next.ids[0] === head.ids[0]) return;
    this.counts.bundleCommits += 1;
    this.takeHistory(path, head, next, problem);
    if (next.watermarkMs < head.watermarkMs) problem(`the watermark of ${path} went back`);
  }

  private takeHistory(
    path: string,
    before: { readonly number: number; readonly ids: readonly string[] },
    next: { readonly number: number; readonly ids: readonly string[] },
    problem: (text: string) => void,
  ): void {
    const id = next.ids[0] ?? "";
    if (next.number !== before.number + 1)
      problem(`${path}: commit ${next.number} follows commit ${before.number}`);
    if (this.commitIds.has(id)) problem(`${path}: the commit id ${id} was used before`);
    this.commitIds.add(id);
    if (!next.ids.slice(1).every((each, index) => each === before.ids[index]))
      problem(`${path}: commit ${next.number} does not know its predecessors`);
  }

  private takeConsumption(
    path: string,
    shard: Shard,
    next: Head,
    ops: readonly LoggedOp[],
    problem: (text: string) => void,
  ): void {
    const deleted = ops.flatMap((op) => {
      const match = op.type === "delete" ? SEGMENT.exec(op.path) : null;
      return match ? [{ head: match[1]!, name: match[2]! }] : [];
    });
    for (const { head, name } of deleted)
      if (head !== path) problem(`${head}/inbox/${name} was deleted by a commit of ${path}`);
    const own = new Set(deleted.map(({ name }) => name));
    // Oldest first: what is deleted and what the position passes is the beginning of the inbox.
    const inOrder = segmentNames([...shard.inbox.keys()]).map(({ name }) => name);
    const partly = next.position?.segment;
    const expected = inOrder.slice(0, own.size);
    if (!expected.every((name) => own.has(name)))
      problem(`${path}: segments were consumed out of their order`);
    if (next.number === shard.head.number && own.size > 0)
      problem(`${path}: segments were consumed by a note of a failure`);
    for (const name of own) this.consume(path, shard, name, undefined, problem);
    if (partly === undefined) {
      const rest = [...shard.inbox].find(([name, { consumed }]) => consumed > 0 && !own.has(name));
      if (rest) problem(`${path}: the position in ${rest[0]} was lost`);
    } else if (partly !== inOrder[own.size])
      problem(`${path}: the position is in ${partly}, not in the oldest`);
    else this.consume(path, shard, partly, next.position!.elements, problem);
  }

  /** The segment is consumed up to so many elements, or whole. */
  private consume(
    path: string,
    shard: Shard,
    name: string,
    upTo: number | undefined,
    problem: (text: string) => void,
  ): void {
    const segment = shard.inbox.get(name);
    if (!segment) {
      problem(`${path}: the segment ${name} was consumed, and is not there`);
      return;
    }
    const end = upTo ?? segment.elements;
    if (end < segment.consumed || end > segment.elements)
      problem(`${path}: ${name} was consumed from ${segment.consumed} to ${end} of ${segment.elements}`);
    this.counts.elementsConsumed += end - segment.consumed;
    segment.consumed = end;
  }

  private takeRelay(ops: readonly LoggedOp[], problem: (text: string) => void): void {
    for (const op of ops) {
      if (op.type !== "setData" || !CURSOR.test(op.path)) continue;
      this.counts.relayCommits += 1;
      const cursor = decodeCursor(op.data, op.path);
      this.takeHistory(op.path, this.cursors.get(op.path) ?? { number: 0, ids: [] }, cursor, problem);
      this.cursors.set(op.path, cursor);
    }
  }

  /** What a multi of this kind does to segments, state and files must be its to do. */
  private requireKind(ops: readonly LoggedOp[], kind: Kind, problem: (text: string) => void): void {
    if (kind === "creation" || kind === "control" || kind === "build" || kind === "removal") return;
    const own = ops.find((op) => op.type === "setData" && HEAD.test(op.path));
    for (const op of ops) {
      if (op.type === "check" || op.type === "other") continue;
      const isConsumption = op.type === "delete" && SEGMENT.test(op.path);
      if (isConsumption && kind !== "bundle") problem(`${op.path} was deleted outside a commit of its shard`);
      if (op.type === "create" && SEGMENT.test(op.path) && kind === "none")
        problem(`${op.path} was appended outside every commit`);
      const isState = /\/stages\/[^/]+\/\d+\/state(\/|$)/.test(op.path);
      if (isState && !(own && "path" in own && op.path.startsWith(`${own.path}/`)))
        problem(`${op.path} was changed outside a commit of its shard`);
      if (op.type === "create" && op.path.includes("/outputs/") && kind !== "bundle")
        problem(`${op.path} was entered outside a commit`);
    }
  }

  private apply(op: LoggedOp, kind: Kind, problem: (text: string) => void): void {
    if (op.type === "check" || op.type === "other") return;
    if (op.type === "setData") this.versions.set(op.path, op.version);
    if (op.type === "create") this.versions.set(op.path, 0);
    if (op.type === "delete") this.versions.delete(op.path);
    if (op.type !== "delete" && op.path === this.layout.generation) {
      const { state, epoch } = decodeGeneration(op.data, op.path);
      this.state = state;
      this.takeEpoch(epoch, problem);
    }
    if (op.type === "setData" && EPOCH.test(op.path)) {
      const { continued } = decodeGraph(op.data, op.path) ?? {};
      const names =
        continued && Object.entries(continued).map((pair) => pair.map(encodeName) as [string, string]);
      if (names) this.continued.set(epochOf(op.path)[0]!, names);
    }
    if (op.type === "create" && HEAD.test(op.path))
      this.shards.set(op.path, { head: decodeHead(op.data, op.path), inbox: new Map() });
    if (op.type === "create" && CURSOR.test(op.path))
      this.cursors.set(op.path, decodeCursor(op.data, op.path));
    if (kind === "build" && op.type === "setData" && HEAD.test(op.path))
      this.shardAt(op.path).head = decodeHead(op.data, op.path);
    const segment = kind === "removal" ? null : SEGMENT.exec(op.path);
    if (!segment) return;
    const { inbox } = this.shardAt(segment[1]!);
    if (op.type === "delete") {
      const known = inbox.get(segment[2]!);
      if (known && known.consumed < known.elements && kind !== "control")
        problem(`${op.path} was deleted with ${known.elements - known.consumed} elements unconsumed`);
      inbox.delete(segment[2]!);
    } else if (op.type === "create") {
      const elements = segmentLength(op.data, op.path);
      inbox.set(segment[2]!, { elements, consumed: 0 });
      // What is moved to another epoch was appended before.
      if (kind === "build") return;
      this.counts.segments += 1;
      this.counts.elementsAppended += elements;
    } else problem(`${op.path} was changed`);
  }

  private shardAt(path: string): Shard {
    let shard = this.shards.get(path);
    if (!shard) {
      shard = { head: NEW_HEAD, inbox: new Map() };
      this.shards.set(path, shard);
    }
    return shard;
  }
}

/** The epoch that a path lies in; nothing for what is in none. */
function epochOf(path: string): number[] {
  const epoch = /\/epochs\/(\d+)(\/|$)/.exec(path)?.[1];
  return epoch === undefined ? [] : [Number(epoch)];
}

const EFFECTS = ["/inbox/", "/state", "/outputs/", "/dead-letter/", "/manifest"];

function isAt(op: LoggedOp, path: string): boolean {
  return op.type !== "other" && op.path === path;
}
