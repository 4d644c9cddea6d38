/**
 * Text of unknown origin as a message can hold it: one line, no control characters, at most
 * `maxChars` with the length it had.
 */
export function oneLine(text: string, maxChars: number): string {
  const clipped =
    text.length > maxChars ? `${text.slice(0, maxChars)}… (${text.length} characters)` : text;
  return clipped.replace(/[\p{Cc}\p{Cs}\u2028\u2029]+/gu, " ");
}

/** `1 host`, `3 hosts`. */
export function counted(count: number, one: string, more = `${one}s`): string {
  return `${count} ${count === 1 ? one : more}`;
}

const UNITS = [
  ["day", 86_400_000],
  ["hour", 3_600_000],
  ["minute", 60_000],
] as const;

/** `1 minute`, `3 hours`: of the largest unit that it has, rounded down; less than one is a minute. */
export function duration(ms: number): string {
  const [unit, length] = UNITS.find(([, unitMs]) => ms >= unitMs) ?? UNITS[2];
  return counted(Math.max(1, Math.floor(ms / length)), unit);
}

/** `30 days`, `90 seconds`: of the largest unit that it is a whole number of. */
export function exactDuration(ms: number): string {
  const [unit, length] = UNITS.find(([, unitMs]) => ms >= unitMs && ms % unitMs === 0) ?? SECOND;
  return counted(ms / length, unit);
}

const SECOND = ["second", 1000] as const;
const BYTE_UNITS = ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB"] as const;

/** `1 TiB`, `1500 bytes`: of the largest unit that it is a whole number of. */
export function exactBytes(bytes: number): string {
  let [count, i] = [bytes, 0];
  for (; count > 0 && count % 1024 === 0 && i < BYTE_UNITS.length - 1; i++) count /= 1024;
  return `${count} ${BYTE_UNITS[i]}`;
}
