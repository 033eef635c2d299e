// The SDK serialises through this one export, looked up at each call, so replacing it works whatever was imported
// first. In a function's bundle infra/esbuild puts a stub in its place, since the original calls eval when loaded.
import serializer = require("serialize-closures/dist/src/serialize");

/** The functions and objects of one pipeline, by order of construction. Nothing is ever serialised. */
export class FunctionRegistry {
  private readonly objects: unknown[] = [];

  add(object: unknown): number {
    return this.objects.push(object) - 1;
  }

  /** From the payload that the SDK made of `add`'s result: the JSON of a number. */
  fromPayload(payload: Uint8Array): unknown {
    const index = Number(Buffer.from(payload).toString("utf8"));
    if (!Number.isInteger(index) || index < 0 || index >= this.objects.length) {
      throw new Error(`no function has the number ${Buffer.from(payload).toString("utf8")}`);
    }
    return this.objects[index];
  }
}

type Serialize = (object: unknown, ...rest: unknown[]) => unknown;

const active: FunctionRegistry[] = [];
const slot = serializer as { default: Serialize };
const original = slot.default;

slot.default = (object, ...rest) => {
  const registry = active.at(-1);
  return registry === undefined ? original(object, ...rest) : registry.add(object);
};

/** True while `compilePipeline` runs a `build`; pipelines of the SDK's own runners are left as they are. */
export function isBuilding(): boolean {
  return active.length > 0;
}

/** Whether it is this registry's `build` that runs: one may compile another pipeline in the middle of its own. */
export function isFilling(registry: FunctionRegistry): boolean {
  return active.at(-1) === registry;
}

/** While `build` runs (it is synchronous), the SDK's serialisation fills this registry. */
export function withRegistry<T>(registry: FunctionRegistry, build: () => T): T {
  active.push(registry);
  try {
    return build();
  } finally {
    active.pop();
  }
}
