import {
  definePipeline,
  json,
  mapState,
  readZnodeChanges,
  statefulParDo,
  valueState,
  writeToZnodes,
} from "beamkeeper";

interface Step {
  readonly order: string;
  /** From 1 on, without gaps; the steps of an order come in any sequence. */
  readonly number: number;
  readonly text: string;
}

/**
 * Ordered output for each key: the steps of an order are written below /orders/steps by different machines, and come in
 * any sequence. Each goes to /orders/log only when all before it have.
 */
export default definePipeline({
  name: "ordered-steps",
  build: (root) => {
    root
      .apply(
        readZnodeChanges("/orders/steps/*", {
          ...{ recursive: false, kinds: ["existing", "created"], decode: json<Step>() },
        }),
      )
      .flatMap(({ value }) => (value === null ? [] : [{ key: value.order, value }]))
      .apply(
        statefulParDo({
          state: {
            next: valueState(1),
            early: mapState<number, Step>(),
            log: valueState<readonly string[]>([]),
          },
          process({ key, value }: { key: string; value: Step }, { state }) {
            let number = state.next.read();
            // A step that was written twice has been given already.
            if (value.number < number) return [];
            state.early.set(value.number, value);
            const given: Step[] = [];
            for (let step = state.early.get(number); step !== undefined; step = state.early.get(number)) {
              given.push(step);
              state.early.delete(number++);
            }
            if (given.length === 0) return [];
            state.next.write(number);
            state.log.write([...state.log.read(), ...given.map(({ text }) => text)]);
            return [{ order: key, log: state.log.read() }];
          },
        }),
      )
      .apply(writeToZnodes(({ order, log }) => ({ path: `/orders/log/${order}`, data: log.join("\n") })));
  },
});
