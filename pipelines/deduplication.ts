import {
  definePipeline,
  json,
  type PipelineDefinition,
  processingTimer,
  readZnodeChanges,
  statefulParDo,
  valueState,
  writeToZnodes,
} from "beamkeeper";

interface Notice {
  readonly id: string;
  readonly text: string;
}

/**
 * Deduplication with state: senders that try again write the same notice below /notices/new more than once, each time
 * as another znode. The first one with an id goes to /notices/unique, exactly once; an id is forgotten when it has not
 * come for so long.
 */
export function deduplication(forgetAfterSeconds: number): PipelineDefinition {
  return definePipeline({
    name: "deduplication",
    build: (root) => {
      root
        .apply(
          readZnodeChanges("/notices/new/*", {
            ...{ recursive: false, kinds: ["existing", "created"], decode: json<Notice>() },
          }),
        )
        .flatMap(({ value }) => (value === null ? [] : [value]))
        .apply(
          statefulParDo((notice: Notice) => notice.id, {
            state: { isKnown: valueState(false) },
            timers: { forget: processingTimer() },
            process(notice: Notice, { state, timers }) {
              // It only tidies up, and is not to hold the watermark meanwhile.
              timers.forget.setAfter(forgetAfterSeconds * 1000, { holdsWatermark: false });
              if (state.isKnown.read()) return [];
              state.isKnown.write(true);
              return [notice];
            },
            onTimer: { forget: ({ state }) => state.isKnown.clear() },
          }),
        )
        .apply(writeToZnodes(({ id, text }) => ({ path: `/notices/unique/${id}`, data: text })));
    },
  });
}

export default deduplication(3_600);
