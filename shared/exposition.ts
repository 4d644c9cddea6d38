import { assert } from "./errors.ts";
import type { HistogramCounts } from "./histogram.ts";
import type { Labels, MetricFamily, Sample } from "./metric-family.ts";

/**
 * Prometheus' text format 0.0.4 (prometheus.io, "Exposition formats"): each family in one piece, its HELP and TYPE
 * first; in help `\` and line feed are escaped, in a label's value `"` too.
 */
export const EXPOSITION_TYPE = "text/plain; version=0.0.4; charset=utf-8";

/** @throws when a sample is no number, or is there twice: a scrape would be refused as a whole. */
export function exposition(families: readonly MetricFamily[]): string {
  const seen = new Set<string>();
  const line = (name: string, { labels, value }: Sample): string => {
    assert(Number.isFinite(value), `${name} is a number`);
    const series = name + labelsText(labels);
    assert(!seen.has(series), `${series} is there once`);
    seen.add(series);
    return `${series} ${value}`;
  };
  return families
    .flatMap((family) => [
      `# HELP ${family.name} ${family.help.replaceAll("\\", "\\\\").replaceAll("\n", "\\n")}`,
      `# TYPE ${family.name} ${family.kind}`,
      ...(family.kind === "histogram"
        ? family.timed.flatMap(({ labels, took }) =>
            bucketsOf(took, labels).map(([part, sample]) => line(family.name + part, sample)),
          )
        : family.samples.map((sample) => line(family.name, sample))),
    ])
    .map((text) => `${text}\n`)
    .join("");
}

/** A bucket has all that took no longer, and `+Inf` all there is. */
function bucketsOf({ upToMs, counts, sumMs }: HistogramCounts, labels: Labels): [string, Sample][] {
  let value = 0;
  const buckets = counts.map((count, i): [string, Sample] => {
    value += count;
    const bound = upToMs[i];
    const le = bound === undefined ? "+Inf" : String(bound / 1000);
    return ["_bucket", { labels: { ...labels, le }, value }];
  });
  return [...buckets, ["_sum", { labels, value: sumMs / 1000 }], ["_count", { labels, value }]];
}

function labelsText(labels: Labels): string {
  const pairs = Object.entries(labels).map(([name, value]) => `${name}="${escaped(value)}"`);
  return pairs.length === 0 ? "" : `{${pairs.join(",")}}`;
}

function escaped(value: string): string {
  return value.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
}
