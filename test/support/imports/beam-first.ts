// The user's file may load the SDK before Beamkeeper, and take functions out of it.
const { groupBy } = require("apache-beam") as typeof import("apache-beam");

import * as beam from "apache-beam";
import { compilePipeline, definePipeline, readZnodeChanges, writeToZnodes } from "../../../lib/index";

const pipeline = compilePipeline(
  definePipeline({
    name: "beam-first",
    build: (root) => {
      const rows = root
        .apply(readZnodeChanges("/a"))
        .map((change) => ({ path: change.path, padding: "a closure of more than sixty characters".length }))
        .map((row) => ({ path: row.path, padding: "a closure of more than sixty characters".length }))
        .apply(beam.windowInto(beam.fixedWindows(1)));
      rows.apply(groupBy("path")).apply(writeToZnodes((group) => ({ path: group.key, data: "" })));
      rows
        .apply(
          beam.groupBy((row: { path: string }) =>
            row.path
              .split("/")
              .filter((part) => part !== "")
              .join("/"),
          ),
        )
        .apply(writeToZnodes((group) => ({ path: `/${group.key}`, data: "" })));
    },
  }),
);
process.stdout.write(JSON.stringify(pipeline.stages.map((stage) => stage.id)));
