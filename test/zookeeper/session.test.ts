import {
  CLOSE_TIMEOUT_MS,
  FIRST_PAUSE_MS,
  FIRST_SEARCH_DELAY_MS,
  initialState,
  LONGEST_PAUSE_MS,
  NO_SESSION,
  nextTickMs,
  pingIntervalMs,
  readTimeoutMs,
  type SessionEffect,
  type SessionInput,
  type SessionState,
  STABLE_AFTER_MS,
  step,
  type Traffic,
} from "../../lib/zookeeper/session";

const OPTIONS = { serverCount: 3, sessionTimeoutMs: 9_000, attemptTimeoutMs: 1_000 };
const IDENTITY = { id: 7n, password: new Uint8Array(16).fill(1) };
const NO_JITTER = 0;
const QUIET: Traffic = { lastSentMs: 0, lastReceivedMs: 0, unansweredSinceMs: undefined };

/** Runs inputs at their times and collects what the machine wants done. */
class Machine {
  state: SessionState = initialState(OPTIONS);
  nowMs = 0;
  effects: SessionEffect[] = [];

  input(input: SessionInput, jitter = NO_JITTER): string[] {
    const { state, effects } = step(this.state, input, this.nowMs, jitter);
    this.state = state;
    this.effects = [...effects];
    return effects.map((effect) => (effect.type === "announce" ? `announce ${effect.state}` : effect.type));
  }

  tick(traffic: Traffic = QUIET): string[] {
    return this.input({ type: "tick", traffic });
  }

  lose(): string[] {
    return this.input({ type: "connectionLost", reason: "broke" });
  }

  establish(timeoutMs = 6_000): string[] {
    this.input({ type: "opened" });
    return this.input({ type: "established", identity: IDENTITY, timeoutMs });
  }

  becomeReady(): this {
    this.input({ type: "start" });
    this.establish();
    this.input({ type: "prepared" });
    return this;
  }
}

describe("the session's state machine", () => {
  test("connects, shakes hands, prepares, and only then lets requests through", () => {
    const machine = new Machine();
    expect(machine.input({ type: "start" })).toEqual(["connect"]);
    expect(machine.input({ type: "opened" })).toEqual(["sendHandshake"]);
    expect(machine.effects[0]).toMatchObject({ identity: NO_SESSION, sessionTimeoutMs: 9_000 });
    expect(machine.input({ type: "established", identity: IDENTITY, timeoutMs: 6_000 })).toEqual(["prepare"]);
    expect(machine.state.visible).toBe("connecting");
    expect(machine.input({ type: "prepared" })).toEqual(["openQueue", "announce connected"]);
  });

  test("keeps to what the server granted", () => {
    const machine = new Machine().becomeReady();
    expect(readTimeoutMs(machine.state)).toBe(4_000);
    expect(pingIntervalMs(machine.state)).toBe(2_000);
    expect(nextTickMs(machine.state, { ...QUIET, lastSentMs: 100 })).toBe(2_100);
    const unanswered = { lastSentMs: 3_000, lastReceivedMs: 500, unansweredSinceMs: 600 };
    expect(nextTickMs(machine.state, unanswered)).toBe(4_500);
  });

  test("pings when idle, and gives a silent server up at two thirds of the timeout", () => {
    const machine = new Machine().becomeReady();
    machine.nowMs = 1_999;
    expect(machine.tick()).toEqual([]);
    machine.nowMs = 2_000;
    expect(machine.tick()).toEqual(["sendPing"]);
    const pinged = { lastSentMs: 2_000, lastReceivedMs: 0, unansweredSinceMs: 2_000 };
    machine.nowMs = 3_999;
    expect(machine.tick(pinged)).toEqual([]);
    machine.nowMs = 4_000;
    expect(machine.tick(pinged)).toEqual([
      "destroySocket",
      "noteFailure",
      "announce suspended",
      "failInFlight",
    ]);
    expect(machine.effects[1]).toMatchObject({ reason: "was silent for 4000 ms" });
  });

  test("a silent server is given up while watches are armed, too", () => {
    const machine = new Machine();
    machine.input({ type: "start" });
    machine.establish();
    machine.nowMs = 4_000;
    expect(machine.tick({ ...QUIET, unansweredSinceMs: 0 })).toContain("failInFlight");
  });

  test("a process that was busy for long asks before it blames the server", () => {
    const machine = new Machine().becomeReady();
    machine.nowMs = 60_000;
    expect(machine.tick()).toEqual(["sendPing"]);
    const pinged = { lastSentMs: 60_000, lastReceivedMs: 0, unansweredSinceMs: 60_000 };
    machine.nowMs = 61_999;
    expect(machine.tick(pinged)).toEqual([]);
    machine.nowMs = 62_000;
    expect(machine.tick(pinged)).toContain("failInFlight");
  });

  test("goes to the next server with the same session", () => {
    const machine = new Machine().becomeReady();
    machine.lose();
    expect(machine.tick()).toEqual(["connect"]);
    expect(machine.effects[0]).toMatchObject({ server: 1 });
    machine.input({ type: "opened" });
    expect(machine.effects[0]).toMatchObject({ identity: IDENTITY });
  });

  test.each(["connecting", "handshake"])("a server that hangs in %s is given up", (phase) => {
    const machine = new Machine();
    machine.input({ type: "start" });
    if (phase === "handshake") machine.input({ type: "opened" });
    machine.nowMs = 999;
    expect(machine.tick()).toEqual([]);
    machine.nowMs = 1_000;
    expect(machine.tick()).toEqual(["destroySocket", "noteFailure", "failInFlight"]);
    expect(machine.state).toMatchObject({ phase: "waiting", server: 1 });
  });

  test("tries every server before the first pause, and then longer and longer with jitter", () => {
    const pauses = (jitter: number) => {
      const machine = new Machine();
      machine.input({ type: "start" });
      return Array.from({ length: 36 }, () => {
        machine.input({ type: "connectionLost", reason: "refused" }, jitter);
        const pause = machine.state.deadlineMs - machine.nowMs;
        machine.nowMs = machine.state.deadlineMs;
        machine.tick();
        return pause;
      });
    };
    const longest = pauses(1);
    expect(longest.slice(0, 7)).toEqual([0, 0, FIRST_PAUSE_MS, FIRST_PAUSE_MS, FIRST_PAUSE_MS, 100, 100]);
    expect(longest.at(-1)).toBe(LONGEST_PAUSE_MS);
    expect(pauses(0).at(-1)).toBe(LONGEST_PAUSE_MS / 2);
  });

  test("only a connection that held ends the growing of pauses", () => {
    const machine = new Machine().becomeReady();
    machine.nowMs = STABLE_AFTER_MS - 1;
    machine.lose();
    expect(machine.state.failures).toBe(1);
    machine.tick();
    machine.establish();
    machine.input({ type: "prepared" });
    machine.nowMs += STABLE_AFTER_MS;
    machine.lose();
    expect(machine.state.failures).toBe(0);
  });

  test("an expired session is said, and replaced by a new one at the same server", () => {
    const machine = new Machine().becomeReady();
    machine.lose();
    machine.tick();
    expect(machine.establish(0)).toEqual(["destroySocket", "announce lost", "expire"]);
    expect(machine.state).toMatchObject({ identity: NO_SESSION, timeoutMs: 9_000 });
    expect(machine.tick()).toEqual(["connect"]);
    machine.establish();
    expect(machine.input({ type: "prepared" })).toEqual(["openQueue", "announce connected"]);
  });

  test("a server that gives no session at all is left for a while, like one that hangs up", () => {
    const machine = new Machine();
    machine.input({ type: "start" });
    for (let attempt = 0; attempt < 3; attempt += 1) {
      machine.input({ type: "opened" });
      const refused = { type: "established", identity: NO_SESSION, timeoutMs: 0 } as const;
      expect(machine.input(refused, 1)).toEqual(["destroySocket", "noteFailure", "failInFlight"]);
      machine.nowMs = machine.state.deadlineMs;
      machine.tick();
    }
    expect(machine.state).toMatchObject({ visible: "connecting", failures: 3 });
    expect(machine.nowMs).toBe(FIRST_PAUSE_MS);
  });

  test("a reply can say that the session has expired", () => {
    const machine = new Machine().becomeReady();
    expect(machine.input({ type: "expired" })).toEqual(["destroySocket", "announce lost", "expire"]);
  });

  test("closes at the server, with a bound on its patience", () => {
    const machine = new Machine().becomeReady();
    expect(machine.input({ type: "close" })).toEqual(["sendClose"]);
    expect(machine.input({ type: "close" })).toEqual([]);
    machine.nowMs = CLOSE_TIMEOUT_MS - 1;
    expect(machine.tick()).toEqual([]);
    machine.nowMs = CLOSE_TIMEOUT_MS;
    expect(machine.tick()).toEqual(["destroySocket", "failInFlight", "announce closed", "finish"]);
    expect(nextTickMs(machine.state, QUIET)).toBeUndefined();
  });

  test("a confirmed close is final, whatever comes after it", () => {
    const machine = new Machine().becomeReady();
    machine.input({ type: "close" });
    expect(machine.input({ type: "closeConfirmed" })).toEqual(["destroySocket", "announce closed", "finish"]);
    for (const input of [
      { type: "start" },
      { type: "opened" },
      { type: "prepared" },
      { type: "expired" },
    ] as const) {
      expect(machine.input(input)).toEqual([]);
    }
    expect(machine.lose()).toEqual([]);
  });

  test.each([
    ["connecting", (machine: Machine) => machine.input({ type: "start" })],
    ["waiting", (machine: Machine) => [machine.input({ type: "start" }), machine.lose()]],
  ] as const)("closes at once while %s", (_phase, arrange) => {
    const machine = new Machine();
    arrange(machine);
    expect(machine.input({ type: "close" })).toEqual(["destroySocket", "announce closed", "finish"]);
  });

  test("news of an older phase changes nothing", () => {
    const machine = new Machine().becomeReady();
    const before = machine.state;
    expect(machine.input({ type: "opened" })).toEqual([]);
    expect(machine.input({ type: "prepared" })).toEqual([]);
    expect(machine.input({ type: "established", identity: IDENTITY, timeoutMs: 1 })).toEqual([]);
    expect(machine.state).toBe(before);
  });

  test("on a read-only server it keeps the session that writes were made in, and looks for one that takes them", () => {
    const machine = new Machine().becomeReady();
    machine.lose();
    machine.tick();
    machine.input({ type: "opened" });
    const local = { id: 99n, password: new Uint8Array(16) };
    machine.input({ type: "established", identity: local, timeoutMs: 6_000, isReadOnly: true });
    machine.input({ type: "prepared" });
    expect(machine.state).toMatchObject({ identity: IDENTITY, server: 1, visible: "connected" });
    const asked: [number, unknown][] = [];
    while (asked.length < 4) {
      machine.nowMs = nextTickMs(machine.state, { ...QUIET, lastSentMs: machine.nowMs })!;
      machine.tick({ ...QUIET, lastSentMs: machine.nowMs });
      for (const effect of machine.effects) {
        if (effect.type === "askWritable") asked.push([machine.nowMs, effect.server]);
      }
    }
    const first = FIRST_SEARCH_DELAY_MS;
    // Server 1 is the one in use: it is not asked, and its turn passes.
    expect(asked).toEqual([
      [first, 2],
      [3 * first, 0],
      [15 * first, 2],
      [31 * first, 0],
    ]);
    const found = machine.input({ type: "writableFound", server: 0 });
    expect(found).toEqual(["destroySocket", "noteFailure", "announce suspended", "failInFlight"]);
    expect(machine.tick()).toEqual(["connect"]);
    expect(machine.effects[0]).toMatchObject({ server: 0 });
    machine.establish();
    expect(machine.state.search).toBeUndefined();
    expect(machine.input({ type: "writableFound", server: 1 })).toEqual([]);
  });

  test("a read-only server that ends its own session does not end the one that writes were made in", () => {
    const machine = new Machine().becomeReady();
    machine.lose();
    machine.tick();
    machine.input({ type: "opened" });
    const local = { id: 99n, password: new Uint8Array(16) };
    machine.input({ type: "established", identity: local, timeoutMs: 6_000, isReadOnly: true });
    machine.input({ type: "prepared" });
    expect(machine.input({ type: "expired" })).not.toContain("expire");
    expect(machine.state).toMatchObject({ identity: IDENTITY, visible: "suspended" });
  });

  test("leaves a session to another without ending it", () => {
    const machine = new Machine().becomeReady();
    expect(machine.input({ type: "detach" })).toEqual(["destroySocket", "announce closed", "finish"]);
  });

  test("begins with a session that was handed over", () => {
    const machine = new Machine();
    machine.state = initialState(OPTIONS, IDENTITY);
    machine.input({ type: "start" });
    machine.input({ type: "opened" });
    expect(machine.effects[0]).toMatchObject({ type: "sendHandshake", identity: IDENTITY });
  });
});
