import { execFile } from "node:child_process";
import { join } from "node:path";

/** `npm run sim` as a process of its own. */
export function runSim(...args: string[]): Promise<{ code: number; output: string }> {
  const main = join(import.meta.dirname, "main.ts");
  const options = ["--disable-warning=ExperimentalWarning", main, ...args];
  return new Promise((resolve) => {
    const child = execFile(process.execPath, options, (_error, stdout, stderr) =>
      resolve({ code: child.exitCode ?? 1, output: stdout + stderr }),
    );
  });
}
