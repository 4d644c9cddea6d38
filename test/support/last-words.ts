import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach } from "vitest";
import { LabHost } from "./lab-host.ts";

declare module "vitest" {
  interface TaskMeta {
    /** Of a test that failed, in a lab: what its hosts' services had written last. */
    hosts?: string;
  }
}

/** Of each log: enough for a stack, or for what a service tried when it ended. */
const LINES = 12;
const COLUMNS = 400;

/**
 * Setup of the projects with labs. A lab is gone with its file; what was written on its hosts goes into the report,
 * once a file, with the first failure: the others often follow from it.
 */
let told = false;

afterEach(({ task }) => {
  if (told || task.result?.state !== "fail") return;
  told = true;
  task.meta.hosts = [...LabHost.running].map(lastWords).join("\n");
});

function lastWords(host: LabHost): string {
  const directory = join(host.directory, "log");
  return readdirSync(directory)
    .map((name) => {
      const lines = readFileSync(join(directory, name), "utf8").trimEnd().split("\n");
      return { name, lines: lines.filter(Boolean).slice(-LINES) };
    })
    .filter(({ lines }) => lines.length > 0)
    .flatMap(({ name, lines }) => [
      `${host.name} ${name}:`,
      ...lines.map((line) => `  ${line.slice(0, COLUMNS)}`),
    ])
    .join("\n");
}
