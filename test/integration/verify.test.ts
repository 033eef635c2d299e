import { existsSync } from "node:fs";
import { beamkeeper, beamkeeperProcess } from "../support/command";
import { type LocalZooKeeper, startZooKeeper } from "../support/zookeeper-server";

test("beamkeeper verify: simulations and chaos, in one report with what became of everything", async () => {
  const { code, output, errors } = await beamkeeperProcess(
    {},
    ...["verify", "--seed", "7", "--seeds", "3", "--minutes", "0.35", "--json"],
  );
  expect(errors.replaceAll(/^\(.*\n/gm, "")).toBe("");
  const { simulations, chaos, problems } = JSON.parse(output);
  expect(problems).toEqual([]);
  expect(code).toBe(0);
  expect(simulations.runs).toBe(3);
  expect(simulations.elements).toBeGreaterThanOrEqual(600);
  expect(simulations.fates.committed).toBeGreaterThan(0);
  const strikes = Object.values(chaos.faults as Record<string, number>);
  expect(strikes.reduce((sum, count) => sum + count, 0)).toBeGreaterThanOrEqual(4);
  expect(chaos.elements).toBeGreaterThan(0);
  expect(chaos.audit.elementsConsumed).toBe(chaos.audit.elementsAppended);
  expect(chaos.audit.waiting).toBe(0);
});

test("beamkeeper audit says which rule is broken, and complains where there is nothing to audit", async () => {
  let ensemble: LocalZooKeeper | undefined;
  try {
    ensemble = await startZooKeeper();
    const { directory } = ensemble.servers[0]!;
    expect(existsSync(directory)).toBe(true);
    const { code, errors } = await beamkeeper({}, "audit", "--log", directory, "summary");
    expect(errors).toMatch(/no transaction log|no commit of/);
    expect(code).toBe(1);
    expect((await beamkeeper({}, "audit", "summary")).code).toBe(2);
    expect((await beamkeeper({}, "verify", "--seeds", "many")).code).toBe(2);
  } finally {
    await ensemble?.stop();
  }
});
