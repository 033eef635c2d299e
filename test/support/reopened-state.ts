import { decodeSharedPanes, encodeSharedPanes, timesOfPaneRow } from "../../lib/beam/coders/pane-state-coder";
import type { StoredRow } from "../../lib/beam/coders/state-coder";
import type { PaneState } from "../../lib/beam/engine/pane-cell";
import type { PanePlan } from "../../lib/beam/engine/pane-plan";
import { Rows } from "../../lib/beam/engine/rows";

/** The state as an invocation finds it that has to load it: from its encodings. The given one is used up. */
export function reopened(state: PaneState<StoredRow>, plan: PanePlan): PaneState<StoredRow> {
  const { size } = plan.trigger;
  const shared = decodeSharedPanes(encodeSharedPanes(state, size), "test", size);
  const rows = Rows.builder<StoredRow>();
  for (const [id, row] of state.rows.entries()) {
    const times = timesOfPaneRow(
      Buffer.from(id, "latin1"),
      Buffer.from(row as string, "latin1"),
      "test",
      plan,
    );
    rows.add(id, row, times);
  }
  return { ...shared, rows: rows.build() };
}
