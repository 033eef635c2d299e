/** A test of a suite that was written for mocha. */
export interface MochaTest {
  /** The titles of the groups around it and its own. */
  readonly name: string;
  readonly run: () => unknown;
}

/**
 * The tests that `load` declares with mocha's globals, without running any. Hooks are left out: what they prepare
 * (processes of other runners) is not wanted here.
 */
export function mochaTests(load: () => void): MochaTest[] {
  const tests: MochaTest[] = [];
  const groups: string[] = [];
  const describe = (title: string, declare: () => void) => {
    groups.push(title);
    try {
      declare();
    } finally {
      groups.pop();
    }
  };
  const it = (title: string, run: () => unknown) => tests.push({ name: [...groups, title].join(": "), run });
  const ignored = () => {};
  withGlobals(
    { describe, it, before: ignored, after: ignored, beforeEach: ignored, afterEach: ignored },
    load,
  );
  return tests;
}

function withGlobals(substitutes: Readonly<Record<string, unknown>>, run: () => void): void {
  const globals = global as unknown as Record<string, unknown>;
  const names = Object.keys(substitutes);
  const kept = names.map((name) => globals[name]);
  Object.assign(globals, substitutes);
  try {
    run();
  } finally {
    names.forEach((name, i) => {
      globals[name] = kept[i];
    });
  }
}
