import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";

const root = join(import.meta.dirname, "../..");
const read = (path: string): string => readFileSync(join(root, path), "utf8");

test("what deploy/README.md tells to run on a host is run in the guest", () => {
  const commands = [
    ...read("deploy/README.md").matchAll(/(?:^ {4}|`)(deploy\/\S+\.sh(?: --\w+)?)/gm),
  ]
    .map(([, command = ""]) => command)
    .concat(read("deploy/README.md").match(/`--(?:force|purge)`/g) ?? []);
  const guest = read("test/guest/systemd.guest.test.ts");
  expect(commands.length).toBeGreaterThan(3);
  for (const command of commands) expect(guest).toContain(command.replaceAll("`", ""));
});
