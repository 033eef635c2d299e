import {
  deployedCode,
  FunctionFailedError,
  type LambdaService,
  LocalLambda,
  shardInvoker,
} from "../../lib/aws/lambda";
import type { ShardRequest } from "../../lib/checkpoint/invocation";

const REQUEST: ShardRequest = { pipeline: "p", stage: "s", shard: 3, zxid: "ff" };

test("a shard is invoked as JSON and answered as JSON", async () => {
  const lambda = new LocalLambda(() => 0);
  const events: unknown[] = [];
  lambda.deploy(
    "bundle",
    async (event) => {
      events.push(event);
      return { outcome: "idle", left: undefined };
    },
    1_000,
  );
  expect(await shardInvoker(lambda, "bundle")(REQUEST)).toEqual({ outcome: "idle" });
  expect(events).toEqual([REQUEST]);
  expect(events[0]).not.toBe(REQUEST);
});

test.each([
  ["an error", new RangeError("too much"), "bundle: RangeError: too much"],
  [
    "something like an error of another realm",
    { name: "TypeError", message: "odd" },
    "bundle: TypeError: odd",
  ],
  ["a text", "thrown text", "bundle: Error: thrown text"],
  ["nothing", undefined, "bundle: Error: undefined"],
])(
  "a function that throws %s is a FunctionFailedError with its name and message",
  async (_name, thrown, message) => {
    const lambda = new LocalLambda(() => 0);
    lambda.deploy("bundle", () => Promise.reject(thrown), 1_000);
    const error = await shardInvoker(lambda, "bundle")(REQUEST).catch((each: unknown) => each);
    expect(error).toBeInstanceOf(FunctionFailedError);
    expect((error as Error).message).toBe(message);
  },
);

test("the version that is named is invoked; whether another one is there is asked without running it", async () => {
  const inputs: unknown[] = [];
  const service: LambdaService = {
    invoke: async ({ FunctionName, InvocationType }) => {
      inputs.push([FunctionName, InvocationType]);
      if (FunctionName === "bundle:8")
        throw Object.assign(new Error(), { name: "ResourceNotFoundException" });
      if (FunctionName === "bundle:9")
        throw Object.assign(new Error("slowly"), { name: "ThrottlingException" });
      return { StatusCode: 200, Payload: undefined };
    },
  };
  await shardInvoker(service, "bundle")(REQUEST, "7");
  const { isThere } = deployedCode(service, { function: "bundle", version: "7" });
  expect(await isThere({ function: "bundle", version: "6" })).toBe(true);
  expect(await isThere({ function: "bundle", version: "8" })).toBe(false);
  expect(await isThere({ function: "another", version: "6" })).toBe(false);
  await expect(isThere({ function: "bundle", version: "9" })).rejects.toThrow("slowly");
  expect(inputs).toEqual([
    ["bundle:7", "RequestResponse"],
    ...["bundle:6", "bundle:8", "bundle:9"].map((name) => [name, "DryRun"]),
  ]);
});

test("an error answer without a reason still names the function", async () => {
  const service: LambdaService = {
    invoke: async () => ({ StatusCode: 200, FunctionError: "Unhandled", Payload: undefined }),
  };
  await expect(shardInvoker(service, "bundle")(REQUEST)).rejects.toThrow(
    "bundle: Error: the function gave no reason",
  );
});

test("the remaining time counts down, and never below nothing", async () => {
  let now = 5_000;
  const lambda = new LocalLambda(() => now);
  const remaining: number[] = [];
  lambda.deploy(
    "relay",
    async (_event, context) => {
      for (const at of [5_000, 5_400, 7_000]) {
        now = at;
        remaining.push(context.getRemainingTimeInMillis());
      }
    },
    1_000,
  );
  const answer = await lambda.invoke({ FunctionName: "relay" });
  expect(remaining).toEqual([1_000, 600, 0]);
  expect(Buffer.from(answer.Payload as unknown as Uint8Array).toString()).toBe("null");
});

test("a function that was not deployed is named", async () => {
  await expect(new LocalLambda(() => 0).invoke({ FunctionName: "nobody" })).rejects.toThrow('"nobody"');
});
