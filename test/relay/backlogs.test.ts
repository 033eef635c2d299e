import fc from "fast-check";
import { Backlogs } from "../../lib/relay/backlogs";
import "../support/property-seed";

const STAGES = [
  { id: "read", upstream: [{ type: "source", id: "main" }] },
  { id: "other", upstream: [{ type: "source", id: "side" }] },
  { id: "group", upstream: [{ type: "stage", id: "read" }] },
  { id: "write", upstream: [{ type: "stage", id: "group" }] },
] as const;

test("a stage that is behind holds those that feed it, and every source above, until it is at half", () => {
  const backlogs = new Backlogs(STAGES, 10);
  const held = () => ({
    stages: STAGES.map(({ id }) => id).filter((id) => backlogs.holdsStage(id)),
    sources: ["main", "side"].filter((id) => backlogs.holdsSource(id)),
  });
  backlogs.appended("write", 0, 10);
  expect(held()).toEqual({ stages: [], sources: [] });
  backlogs.appended("write", 1, 11);
  expect(held()).toEqual({ stages: ["group"], sources: ["main"] });
  backlogs.set("write", 1, 6);
  expect(held().stages).toEqual(["group"]);
  backlogs.set("write", 1, 5);
  expect(held().stages).toEqual(["group"]);
  backlogs.set("write", 0, 5);
  expect(held()).toEqual({ stages: [], sources: [] });
});

test("whatever is behind, one stage with something waiting is free to go on", () => {
  const counts = fc.array(fc.tuple(fc.nat(3), fc.nat(1), fc.nat(40)), { minLength: 1, maxLength: 40 });
  fc.assert(
    fc.property(counts, (changes) => {
      const backlogs = new Backlogs(STAGES, 10);
      const waiting = new Map<string, number>();
      for (const [stage, shard, segments] of changes) {
        backlogs.set(STAGES[stage]!.id, shard, segments);
        waiting.set(`${STAGES[stage]!.id}/${shard}`, segments);
      }
      const isHeld = STAGES.some(({ id }) => backlogs.holdsStage(id));
      const free = [...waiting].filter(([name, segments]) => {
        return segments > 0 && !backlogs.holdsStage(name.split("/")[0]!);
      });
      return !isHeld || free.length > 0;
    }),
  );
});
