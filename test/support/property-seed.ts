import fc from "fast-check";

/** The same cases in every run: properties are explored with other seeds by `PROPERTY_SEED=n npx jest`. */
fc.configureGlobal({ ...fc.readConfigureGlobal(), seed: Number(process.env.PROPERTY_SEED ?? 20_261_122) });
