import { definePipeline, readZnodeChanges, text, writeToZnodes } from "beamkeeper";

/**
 * A task queue: each znode below /tasks/new is done once, its result appears below /tasks/done, and it is taken off
 * the queue in the same transaction. Tasks that were there before the first start are done, too.
 */
export default definePipeline({
  name: "task-queue",
  build: (root) => {
    const results = root
      .apply(
        readZnodeChanges("/tasks/new/*", {
          ...{ recursive: false, kinds: ["existing", "created"], decode: text() },
          // The queue is what it reads: taking a task off is meant.
          allowFeedback: true,
        }),
      )
      .map(({ path, value }) => ({ id: path.slice("/tasks/new/".length), result: perform(value ?? "") }));
    results.apply(
      writeToZnodes(({ id, result }) => ({ path: `/tasks/done/${id}`, data: result }), { mode: "create" }),
    );
    results.apply(
      writeToZnodes(({ id }) => ({ path: `/tasks/new/${id}` }), { mode: "delete", onConflict: "skip" }),
    );
  },
});

/** The work itself: here, the words of a text are counted. */
function perform(task: string): string {
  return `${task.split(/\s+/).filter(Boolean).length} words`;
}
