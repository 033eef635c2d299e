import { answerHealth, type Health, portOf, serveHealth } from "../../lib/cli/health-endpoint";

const health = (...problems: string[]): Health => ({
  problems: () => problems,
  metrics: () => "a_metric 1\n",
});

test("ready where nothing is in the way, else every reason on a line", () => {
  expect(answerHealth("GET", "/ready", health())).toEqual({ status: 200, body: "ready\n" });
  expect(answerHealth("GET", "/ready", health("one", "two"))).toEqual({ status: 503, body: "one\ntwo\n" });
});

test("live whatever is in the way", () => {
  expect(answerHealth("HEAD", "/live", health("one"))).toEqual({ status: 200, body: "live\n" });
});

test("nothing else is there, and nothing can be sent", () => {
  expect(answerHealth("GET", "/", health()).status).toBe(404);
  expect(answerHealth("GET", undefined, health()).status).toBe(404);
  expect(answerHealth("POST", "/live", health()).status).toBe(405);
});

test("a query is no part of the path, and the type of the metrics is Prometheus's", async () => {
  const endpoint = await serveHealth({ host: "127.0.0.1", port: 0 }, health("one"));
  try {
    const metrics = await fetch(`${endpoint.url}/metrics?name=x`);
    expect(metrics.headers.get("content-type")).toBe("text/plain; version=0.0.4; charset=utf-8");
    expect(await metrics.text()).toBe("a_metric 1\n");
    expect((await fetch(`${endpoint.url}/ready`)).status).toBe(503);
  } finally {
    await endpoint.close();
  }
});

test.each([
  ["0", 0],
  ["65535", 65_535],
  ["65536", undefined],
  ["-1", undefined],
  ["80a", undefined],
  ["", undefined],
])("port %j", (text, port) => {
  expect(portOf(text)).toBe(port);
});
