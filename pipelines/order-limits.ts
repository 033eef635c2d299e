import { definePipeline, json, readZnodeChanges, readZnodeLatest, writeToZnodes } from "beamkeeper";

interface Purchase {
  readonly customer: string;
  readonly amount: number;
  readonly currency: string;
}

interface Limits {
  readonly maxAmount: number;
  /** What one unit of each currency is worth in that of `maxAmount`. */
  readonly rates: Readonly<Record<string, number>>;
}

/**
 * A slowly changing lookup: purchases below /purchases/new are held against limits and rates that someone keeps in
 * /config/limits. A write to that is taken up with the next bundle, and no purchase is judged by limits that were
 * replaced before its judgement is committed. Until they are written for the first time, purchases wait.
 */
export default definePipeline({
  name: "order-limits",
  build: (root) => {
    const limits = readZnodeLatest("/config/limits", { decode: json<Limits>(), checkVersion: true });
    root
      .apply(
        readZnodeChanges("/purchases/new/*", {
          ...{ recursive: false, kinds: ["existing", "created"], decode: json<Purchase>() },
        }),
      )
      .map(
        ({ path, value }, { limits }) => {
          const { maxAmount, rates } = limits.lookup();
          const { customer, amount, currency } = value!;
          const worth = amount * (rates[currency] ?? Number.POSITIVE_INFINITY);
          const verdict = worth <= maxAmount ? "accepted" : "refused";
          return { id: path.slice("/purchases/new/".length), customer, verdict, maxAmount };
        },
        { limits },
      )
      .apply(
        writeToZnodes(({ id, ...verdict }) => ({
          path: `/purchases/judged/${id}`,
          data: JSON.stringify(verdict),
        })),
      );
  },
});
