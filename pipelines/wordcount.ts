import * as beam from "apache-beam";
import { definePipeline, readText, writeToText } from "beamkeeper";

/** The files whose words are counted: TEXT=logs/ npm start -- wordcount */
const TEXT = process.env.TEXT ?? "docs/*.md";

export default definePipeline({
  name: "wordcount",
  shards: 2,
  build: (root) =>
    root
      .apply(readText(TEXT))
      .flatMap((line: string) => line.toLowerCase().match(/\p{L}+/gu) ?? [])
      .apply(beam.countPerElement())
      .apply(writeToText("wordcount/counts", { format: ({ element, count }) => `${element}: ${count}` })),
});
