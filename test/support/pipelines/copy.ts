import { definePipeline, readZnodeChanges, writeToZnodes } from "beamkeeper";

/** Copies what is below /app to /copies. POISON: the function throws for that value. COPIES: how many times over. */
export default definePipeline({
  name: "copy",
  build: (root) => {
    root
      .apply(readZnodeChanges("/app"))
      .map((change) => {
        if (change.text === process.env.POISON) throw new RangeError("this value is poison");
        return change;
      })
      .apply(
        writeToZnodes(({ path, text }) => ({
          path: `/copies/${encodeURIComponent(path)}`,
          data: (text ?? "(deleted)").repeat(Number(process.env.COPIES ?? 1)),
        })),
      );
  },
});
