import type { PluginCounts } from "../docker/plugin/counters.ts";

/** Older refusals are in `status --json`. */
const SHOWN_MS = 3_600_000;

/** What Docker was refused within the last hour: how often since the start, when last, and why. */
export function refusedText(plugin: PluginCounts | undefined, nowMs: number): string[] {
  if (plugin === undefined) return [];
  const { names, methods, garbage } = plugin.unknown;
  const times = (name: string): number => plugin.calls[name]?.refused ?? names + methods + garbage;
  // An agent of before says no times.
  const recent = Object.entries(plugin.lastRefused ?? {})
    .filter(([, { atMs }]) => nowMs - atMs < SHOWN_MS)
    .toSorted(([, a], [, b]) => b.atMs - a.atMs);
  const lines = recent.flatMap(([name, { atMs, message, next }]) => [
    `refused to Docker: ${plugin.calls[name] === undefined ? "no call of ours" : name}, ${often(times(name))}, ${agoText(nowMs - atMs)}: ${message}`,
    ...(next === undefined ? [] : [`  → ${next}`]),
  ]);
  return lines.length === 0 ? [] : ["", ...lines];
}

function often(times: number): string {
  return times === 1 ? "once" : `${times} times, last`;
}

function agoText(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1000));
  return seconds < 120 ? `${seconds} s ago` : `${Math.round(seconds / 60)} min ago`;
}
