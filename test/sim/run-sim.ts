import { execFile } from "node:child_process";
import { join } from "node:path";

/** `npm run sim` as a process of its own. */
export function runSim(
  args: readonly string[],
  environment: Readonly<Record<string, string>> = {},
): Promise<{ code: number; output: string }> {
  const main = join(import.meta.dirname, "main.ts");
  const command = ["--disable-warning=ExperimentalWarning", main, ...args];
  const options = { env: { ...process.env, ...environment } };
  return new Promise((resolve) => {
    const child = execFile(process.execPath, command, options, (_error, stdout, stderr) =>
      resolve({ code: child.exitCode ?? 1, output: stdout + stderr }),
    );
  });
}
