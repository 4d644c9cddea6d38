import { expect, test } from "vitest";
import { exposition } from "../../shared/exposition.ts";
import { Histogram, summed } from "../../shared/histogram.ts";
import { by, counter, gauge, histogram, only } from "../../shared/metric-family.ts";

test("a family is its help, its type and its samples", () => {
  expect(
    exposition([
      gauge("a_bytes", "How many.", only(12)),
      counter("b_total", "How often.", by("why", { x: 1, y: 0 })),
      gauge("c", "Nothing is known.", []),
    ]),
  ).toBe(
    [
      "# HELP a_bytes How many.",
      "# TYPE a_bytes gauge",
      "a_bytes 12",
      "# HELP b_total How often.",
      "# TYPE b_total counter",
      'b_total{why="x"} 1',
      'b_total{why="y"} 0',
      "# HELP c Nothing is known.",
      "# TYPE c gauge",
      "",
    ].join("\n"),
  );
});

test("what ends a line or a value is escaped", () => {
  expect(
    exposition([gauge("a", "A \\ and a\nline.", by("name", { 'x"y\\z\n': true }))]).split("\n"),
  ).toEqual(["# HELP a A \\\\ and a\\nline.", "# TYPE a gauge", 'a{name="x\\"y\\\\z\\n"} 1', ""]);
});

test("a histogram's buckets have all that took no longer, in seconds", () => {
  const took = new Histogram([1, 500]);
  for (const ms of [0.5, 1, 2, 400, 9000]) took.add(ms);
  const text = exposition([
    histogram("took_seconds", "How long.", [{ labels: { of: "a" }, took: took.counts() }]),
  ]);
  expect(text.split("\n").slice(2, -1)).toEqual([
    'took_seconds_bucket{of="a",le="0.001"} 2',
    'took_seconds_bucket{of="a",le="0.5"} 4',
    'took_seconds_bucket{of="a",le="+Inf"} 5',
    'took_seconds_sum{of="a"} 9.404',
    'took_seconds_count{of="a"} 5',
  ]);
});

test("several histograms are one, bucket by bucket", () => {
  const [one, other] = [new Histogram([1, 10]), new Histogram([1, 10])];
  for (const ms of [1, 5]) one.add(ms);
  for (const ms of [5, 50]) other.add(ms);
  expect(summed([one.counts(), other.counts()])).toEqual({
    upToMs: [1, 10],
    counts: [1, 2, 1],
    sumMs: 61,
  });
  expect(summed([])).toBeUndefined();
});

test.each([
  ["what is no number", [{ labels: {}, value: Number.NaN }]],
  ["what has no end", [{ labels: {}, value: Infinity }]],
  ["one sample twice", [...only(1), ...only(2)]],
])("%s is not said: a scrape would be refused as a whole", (_, samples) => {
  expect(() => exposition([gauge("a", "A.", samples)])).toThrow(/a is (a number|there once)/);
});
