import type { SpawnOptions } from "node:child_process";
import { startProgram } from "./start-program.ts";

export interface Ran {
  /** Undefined: ended by a signal. */
  readonly status: number | undefined;
  readonly stdout: string;
  readonly stderr: string;
}

/** To its end, and what it wrote. @throws when it cannot be started; UNSUPPORTED: it is not installed */
export function runProgram(
  command: string,
  args: readonly string[],
  { input = "", timeoutMs }: { readonly input?: string; readonly timeoutMs: number },
): Promise<Ran> {
  return new Promise((resolve, reject) => {
    const options: SpawnOptions = { stdio: "pipe", timeout: timeoutMs };
    const child = startProgram(command, args, options, reject);
    let stdout = "";
    let stderr = "";
    child?.stdout?.setEncoding("utf8").on("data", (chunk: string) => (stdout += chunk));
    child?.stderr?.setEncoding("utf8").on("data", (chunk: string) => (stderr += chunk));
    child?.on("close", (status) => resolve({ status: status ?? undefined, stdout, stderr }));
    child?.stdin?.on("error", () => {});
    child?.stdin?.end(input);
  });
}
