export const pipeline = "not a pipeline";
