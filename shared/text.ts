/**
 * Text of unknown origin as a message can hold it: one line, no control characters, at most
 * `maxChars` with the length it had.
 */
export function oneLine(text: string, maxChars: number): string {
  const clipped =
    text.length > maxChars ? `${text.slice(0, maxChars)}… (${text.length} characters)` : text;
  return clipped.replace(/[\p{Cc}\p{Cs}\u2028\u2029]+/gu, " ");
}
