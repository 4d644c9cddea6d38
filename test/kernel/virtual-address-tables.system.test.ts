// @module-tag never

import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import { NamespaceTable } from "../../agent/balancing/namespace-table.ts";
import { ScratchForms } from "../../agent/balancing/scratch-forms.ts";
import { clientTable } from "../../agent/core/balancing/client-table.ts";
import { namespaceAt } from "../../agent/kernel/netns.ts";
import { TestHosts } from "../support/hosts.ts";
import { anyServices } from "../support/services.ts";

let hosts: TestHosts;
let table: NamespaceTable;

beforeAll(() => {
  hosts = new TestHosts(1);
  const path = join(hosts.directory, "h1");
  table = new NamespaceTable(path, namespaceAt(path)!);
});

afterAll(() => hosts.close());

test("from any services to any others by what differs: the table that is written for them whole", () => {
  const forms = new ScratchForms();
  const done = { changed: 0, whole: 0 };
  fc.assert(
    fc.property(anyServices, fc.constantFrom("one", "two"), (services, client) => {
      const wanted = clientTable(services, client);
      const put = table.put(wanted, forms);
      if (put === "changed") done.changed++;
      else if (put === "written") done.whole++;
      // As another agent finds it, which compares it with one that was never different.
      const found = new NamespaceTable(table.path, table.namespace).put(wanted, forms);
      if (done.whole > 0) expect(found).toBe("adopted");
    }),
    { numRuns: 100 },
  );
  forms.end();
  expect(done.changed).toBeGreaterThan(50);
  expect(done.whole).toBe(1);
});
