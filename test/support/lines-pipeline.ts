import { groupBy } from "apache-beam";
import { definePipeline, type PipelineDefinition, readText, writeToText } from "beamkeeper";

export interface LinesSampleOptions {
  readonly name: string;
  readonly pattern: string;
  readonly splitBytes: number;
  readonly shards: number;
}

const BUCKETS = 10;

/**
 * A bounded pipeline over lines that begin with a number each: how many there are, their sum and the sum of their
 * squares, for each last digit. A line that is lost or doubled shows.
 */
export function linesPipeline({ name, pattern, splitBytes, shards }: LinesSampleOptions): PipelineDefinition {
  return definePipeline({
    name,
    shards,
    build: (root) =>
      root
        .apply(readText(pattern, { splitBytes }))
        .map((line) => Number(/^\d+/.exec(line)![0]))
        .map((n) => ({ digit: n % BUCKETS, one: 1, n, square: n * n }))
        .apply(
          groupBy("digit")
            .combining("one", (a: number, b: number) => a + b, "count")
            .combining("n", (a: number, b: number) => a + b, "sum")
            .combining("square", (a: number, b: number) => a + b, "squares"),
        )
        .apply(writeToText(`${name}/sums`, { shards })),
  });
}

/** What the pipeline writes for these numbers, one line for each digit, sorted. */
export function expectedSums(numbers: readonly number[]): string[] {
  const sums = Array.from({ length: BUCKETS }, (_, digit) => ({ digit, count: 0, sum: 0, squares: 0 }));
  for (const n of numbers) {
    const sum = sums[n % BUCKETS]!;
    sum.count += 1;
    sum.sum += n;
    sum.squares += n * n;
  }
  return sums.map((sum) => JSON.stringify(sum)).sort();
}
