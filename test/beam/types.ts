import * as beam from "apache-beam";
import { count, mean, sum } from "apache-beam/transforms/combiners";
import {
  definePipeline,
  eventTimer,
  json,
  mapState,
  processingTimer,
  readZnodeChanges,
  statefulParDo,
  text,
  timestamped,
  valueState,
  writeToText,
  writeToZnodes,
} from "beamkeeper";

/**
 * Compiled with the rest by `tsc`: a wrong type is an error there, and so is a `@ts-expect-error` without one.
 * Nothing in here runs.
 */
type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;

function expectType<Expected>() {
  return <Actual>(_collection: beam.PCollection<Actual>, _equal: Equal<Actual, Expected>) => {};
}

export default definePipeline({
  name: "types",
  build: (root) => {
    const changes = root.apply(readZnodeChanges("/services"));
    const rows = changes.map((change) => ({
      service: change.path,
      size: change.data?.length ?? 0,
      at: change.mtimeMs,
    }));
    expectType<{ service: string; size: number; at: number }>()(rows, true);

    const decoded = root.apply(
      readZnodeChanges(["/a", "/b"], { decode: json<{ owner: string }>(), kinds: ["created", "children"] }),
    );
    expectType<string>()(
      decoded.map((change) => change.value?.owner ?? ""),
      true,
    );
    expectType<string>()(
      root.apply(readZnodeChanges("/c", { decode: text() })).map(({ value, path }) => value ?? path),
      true,
    );
    // @ts-expect-error there is no such kind
    readZnodeChanges("/c", { kinds: ["updated"] });

    const windowed = rows.apply(beam.windowInto(beam.fixedWindows(1)));
    expectType<{ service: string; size: number; at: number }>()(windowed, true);

    const summary = windowed.apply(
      beam
        .groupBy("service")
        .combining("size", (a, b) => a + b, "total")
        .combining("size", mean, "average")
        .combining(
          (row: { at: number }) => `${row.at}`,
          (a, b) => (a.localeCompare(b) < 0 ? a : b),
          "first",
        )
        .combining("at", count, "changes"),
    );
    expectType<{ service: string; total: number; average: number; first: string; changes: number }>()(
      summary,
      true,
    );

    const two = windowed.apply(beam.groupBy(["service", "at"]).combining("size", sum, "total"));
    expectType<{ service: string; at: number; total: number }>()(two, true);

    const keyed = windowed.apply(
      beam.groupBy((row: { size: number }) => row.size > 10, "large").combining("size", sum, "n"),
    );
    expectType<{ large: boolean; n: number }>()(keyed, true);

    const lists = windowed.apply(beam.groupBy("service"));
    lists.map((group) => group.value.map((row) => row.size)).flatMap((sizes) => [...sizes, 0]);

    summary.map((row, { extra }) => row.total + extra, { extra: 1 });
    summary.apply(writeToZnodes((row) => ({ path: `/out/${row.service}`, data: `${row.total.toFixed(1)}` })));
    summary.apply(writeToText("out/summary", { format: (row) => row.first.toUpperCase() }));

    // @ts-expect-error: there is no such field in a change
    changes.map((change) => change.pth);
    // @ts-expect-error: nor in a row of the summary
    summary.map((row) => row.totl);
    // @ts-expect-error: a number is not a string
    summary.map((row) => row.total.toUpperCase());
    // @ts-expect-error: grouping by a field that the elements do not have
    windowed.apply(beam.groupBy("servce").combining("size", sum, "total"));
    // @ts-expect-error: combining a field that the elements do not have
    windowed.apply(beam.groupBy("service").combining("sze", (a, b) => a + b, "total"));
    // @ts-expect-error: the data of a znode is text or bytes
    summary.apply(writeToZnodes((row) => ({ path: "/out", data: row.total })));
    // @ts-expect-error: no such mode
    summary.apply(writeToZnodes(() => ({ path: "/out", data: "" }), { mode: "append" }));

    const pairs = rows.map(({ service, size }) => ({ key: service, value: size }));
    const alerts = pairs.apply(
      statefulParDo({
        state: { total: valueState(0), last: valueState<Date>(), names: mapState<string, bigint>() },
        timers: { idle: processingTimer(), end: eventTimer() },
        process({ key, value }: beam.KV<string, number>, { state, timers }) {
          state.total.write(state.total.read() + value);
          timers.idle.setAfter(state.names.get(key) === 1n ? 5 : 10);
          // @ts-expect-error it may not have been written
          state.last.read().getTime();
          // @ts-expect-error another type
          state.total.write("1");
          return value > 5 ? [{ key, value }] : [timestamped("late", 5)];
        },
        onTimer: {
          idle: ({ key, state }) => [key.length + state.total.read()],
          end: () => undefined,
        },
        onWindowExpiration: ({ key }) => [new Set([key])],
      }),
    );
    expectType<{ key: string; value: number } | string | number | Set<string>>()(alerts, true);
    expectType<boolean>()(
      rows.apply(
        statefulParDo((row: { service: string }) => row.service, {
          process: (row: { service: string }, { key }) => [row.service === key],
        }),
      ),
      true,
    );
    expectType<number>()(
      pairs.apply(
        statefulParDo({ n: valueState(0) }, ({ value }: beam.KV<string, number>, { state }) => [
          state.n.read() + value,
        ]),
      ),
      true,
    );
    // @ts-expect-error elements of another kind
    rows.apply(statefulParDo({}, ({ value }: beam.KV<string, number>) => [value]));
  },
});
