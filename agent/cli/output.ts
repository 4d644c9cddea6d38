import { asFailure, type ErrorCode } from "../../shared/errors.ts";

/** What a command prints, and how it ends. */

/** Also of `status`, which is answered all the same. */
export const NOT_A_MEMBER = 3;

/** 1 is any failure; these let a script tell the common ones apart. 2 is wrong usage. */
const EXIT: Partial<Record<ErrorCode, number>> = {
  INVALID: 2,
  NOT_JOINED: NOT_A_MEMBER,
  UNREACHABLE: 4,
  TIMEOUT: 4,
  NOT_FOUND: 5,
  CONFLICT: 6,
  UNAUTHENTICATED: 7,
  FORBIDDEN: 7,
  NOT_ROOT: 7,
};

export interface OutputOptions {
  readonly json?: boolean | undefined;
}

/** JSON for programs, the text for people. */
export function print(options: OutputOptions, value: unknown, text: () => string): void {
  process.stdout.write(`${options.json === true ? JSON.stringify(value, undefined, 2) : text()}\n`);
}

/** Columns as wide as their widest cell; no lines, so that awk can read it too. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const all = [head, ...rows];
  const widths = head.map((_, i) => Math.max(...all.map((row) => (row[i] ?? "").length)));
  return all
    .map((row) =>
      row
        .map((cell, i) => cell.padEnd(widths[i] ?? 0))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}

const COLOURS = { red: 31, green: 32 } as const;

/** Coloured where a person looks at it (no-color.org). */
export function paint(text: string, colour: keyof typeof COLOURS): string {
  if (!process.stdout.isTTY || (process.env["NO_COLOR"] ?? "") !== "") return text;
  return `\u001b[${COLOURS[colour]}m${text}\u001b[0m`;
}

/** To stderr, so that `--json` stays parseable; with what to do about it. */
export function progress(text: string): void {
  process.stderr.write(`${text}\n`);
}

/** For what came without a word of what to do: of a library, the kernel, or an agent of another version. */
const ANYWAY =
  "run it again; if it stays so, `journalctl -u overlay-ts-agent` and OVERLAY_TS_DEBUG=1 show more";

/** Prints the failure, never without what to do about it, and returns the exit status. */
export function fail(options: OutputOptions, error: unknown): number {
  const { next = ANYWAY, ...rest } = asFailure(error);
  const failure = { ...rest, next };
  if (options.json === true) process.stderr.write(`${JSON.stringify({ failure })}\n`);
  else {
    progress(`overlay-ts: ${failure.message}`);
    progress(`  → ${next}`);
    if (failure.code === "INTERNAL" && error instanceof Error && process.env["OVERLAY_TS_DEBUG"])
      progress(error.stack ?? "");
  }
  return EXIT[failure.code] ?? 1;
}
