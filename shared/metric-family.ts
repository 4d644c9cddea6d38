import type { HistogramCounts } from "./histogram.ts";

/** Metrics as Prometheus reads them: names, what they mean, and what they say now. */

export type Labels = Readonly<Record<string, string>>;

export interface Sample {
  readonly labels: Labels;
  readonly value: number;
}

/** How often something took how long. */
interface Timed {
  readonly labels: Labels;
  readonly took: HistogramCounts;
}

interface Named {
  /** In seconds or bytes, where it has a unit; a counter's ends in `_total`. */
  readonly name: string;
  readonly help: string;
}

/** One name. It is shown, without a sample, also where there is nothing to count. */
export type MetricFamily = Named &
  (
    | { readonly kind: "gauge" | "counter"; readonly samples: readonly Sample[] }
    | { readonly kind: "histogram"; readonly timed: readonly Timed[] }
  );

/** What a number without labels says; undefined: it is not known. */
export function only(value: number | boolean | undefined): Sample[] {
  return value === undefined ? [] : [{ labels: {}, value: Number(value) }];
}

/** A sample for each entry, told apart by one label. */
export function by(
  label: string,
  values: Readonly<Record<string, number | boolean>> | undefined,
): Sample[] {
  return Object.entries(values ?? {}).map(([key, value]) => ({
    labels: { [label]: key },
    value: Number(value),
  }));
}

export function gauge(name: string, help: string, samples: readonly Sample[]): MetricFamily {
  return { kind: "gauge", name, help, samples };
}

/** It only grows, until the process ends. */
export function counter(name: string, help: string, samples: readonly Sample[]): MetricFamily {
  return { kind: "counter", name, help, samples };
}

export function histogram(name: string, help: string, timed: readonly Timed[]): MetricFamily {
  return { kind: "histogram", name, help, timed };
}
