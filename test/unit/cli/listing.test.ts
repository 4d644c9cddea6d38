import { expect, test } from "vitest";
import { type Columns, listed, type Listing, oneNetwork } from "../../../agent/cli/listing.ts";
import { OverlayError } from "../../../shared/errors.ts";

/** What all `ls` commands have in common. */

interface Host {
  readonly name: string;
  readonly ms: string;
  readonly roles: string;
}

const columns: Columns<Host> = {
  NAME: ({ name }) => name,
  "DATA PATH": ({ ms }) => ms,
  ROLES: ({ roles }) => roles,
};
const rows = [
  { name: "h1", ms: "-", roles: "this host, controller" },
  { name: "h2", ms: "0.20 ms", roles: "" },
  { name: "h3", ms: "NO", roles: "" },
];
const hosts: Listing<Host> = { rows, columns, id: "NAME", json: (left) => left };
const none: Listing<Host> = { ...hosts, rows: [] };

test("a table has its heading, also of nothing", () => {
  expect(listed(hosts, {}, false).split("\n")[1]).toBe("h1    -          this host, controller");
  expect(listed(none, {}, false)).toBe("NAME  DATA PATH  ROLES");
});

test("-q prints names alone, each once", () => {
  expect(listed(hosts, { quiet: true }, false)).toBe("h1\nh2\nh3");
  expect(listed({ ...hosts, rows: [...rows, ...rows] }, { quiet: true }, false)).toBe("h1\nh2\nh3");
  expect(listed(none, { quiet: true }, false)).toBe("");
});

test("--filter: of one field either, of several all, each of a list, whatever the case", () => {
  const left = (...filter: string[]): string => listed(hosts, { quiet: true, filter }, false);
  expect(left("name=H1", "name=h2")).toBe("h1\nh2");
  expect(left("name=h1", "datapath=no")).toBe("");
  expect(left("DataPath=no")).toBe("h3");
  expect(left("roles=controller")).toBe("h1");
  expect(JSON.parse(listed(hosts, { filter: ["name=h2"] }, true))).toEqual([rows[1]]);
});

test("--format: a template of fields, or JSON of them", () => {
  const shown = (format: string): string[] => listed(hosts, { format }, false).split("\n");
  expect(shown("{{.Name}}\\t{{ .DataPath }}!")).toEqual(["h1\t-!", "h2\t0.20 ms!", "h3\tNO!"]);
  const json = '{"Name":"h2","DataPath":"0.20 ms","Roles":""}';
  expect(shown("json")[1]).toBe(json);
  expect(shown("{{json .}}")[1]).toBe(json);
});

test.each([
  [{ format: "{{.Nmae}}" }, "no field Nmae is listed here"],
  [{ filter: ["nmae=h1"] }, "no field nmae is listed here"],
  [{ filter: ["h1"] }, "--filter h1 is not field=value"],
])("%j is wrong usage, also where nothing is listed", (options, message) => {
  for (const listing of [hosts, none])
    expect(() => listed(listing, options, false)).toThrow(
      expect.objectContaining({ code: "INVALID", message, next: expect.any(String) as string }),
    );
});

test("a network is named by argument or option", () => {
  expect([oneNetwork("a", undefined), oneNetwork(undefined, "a"), oneNetwork("a", "a")]).toEqual([
    "a",
    "a",
    "a",
  ]);
  expect(() => oneNetwork("a", "b")).toThrow(OverlayError);
});
