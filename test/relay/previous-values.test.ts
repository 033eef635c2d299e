import { PreviousValues } from "../../lib/relay/previous-values";

test("the values of the paths used last, as many as fit", () => {
  const values = new PreviousValues(1_000);
  const value = (text: string): Buffer => Buffer.from(text.padEnd(98));
  values.delivered("/a", value("1"));
  values.delivered("/b", value("2"));
  values.delivered("/c", value("3"));
  values.delivered("/a", value("4"));
  expect(values.get("/b")).toEqual(value("2"));
  values.delivered("/d", value("5"));
  expect(values.get("/b")).toBeUndefined();
  expect(["/a", "/c", "/d"].map((path) => values.get(path)?.toString().trim())).toEqual(["4", "3", "5"]);
});

test("a deletion forgets, and a value that is too large is not kept in place of the others", () => {
  const values = new PreviousValues(1_000);
  values.delivered("/a", Buffer.from("1"));
  values.delivered("/b", Buffer.from("2"));
  values.delivered("/a", null);
  values.delivered("/c", Buffer.alloc(900));
  expect([values.get("/a"), values.get("/b"), values.get("/c")]).toEqual([
    undefined,
    Buffer.from("2"),
    undefined,
  ]);
});
