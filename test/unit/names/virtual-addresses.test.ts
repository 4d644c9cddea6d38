import dnsPacket from "dns-packet";
import { describe, expect, test } from "vitest";
import { type Attached, NameTable } from "../../../agent/core/names/name-table.ts";
import { askedPort } from "../../../agent/core/names/service-names.ts";
import { reply } from "../../../agent/names/server/answer.ts";
import { applyChanges } from "../../../agent/names/server/apply-changes.ts";
import { TableCopy } from "../../../agent/names/server/table-copy.ts";
import type { TableChange } from "../../../agent/names/server/port.ts";
import { Ip } from "../../../shared/ip.ts";
import { holder, holders, net, network, on } from "../../support/names.ts";

const VIP = ["10.192.9.1", "fd00:9::1"].map((text) => Ip.parse(text));
const vips = (names: readonly string[] = ["web"]): TableChange => ({
  kind: "vips",
  network: net(1),
  vips: names.map((name) => ({ name, ips: VIP })),
});
const ips = (k: number) => [Ip.parse(`10.192.0.${k}`), Ip.parse(`fd00:1::${k}`)];
const changes: TableChange[] = [
  network(1, "app"),
  holders(1, [
    holder(1, ["w1", "web"], { ips: ips(1), ports: ["80/tcp", "53/udp"] }),
    holder(2, ["w2", "web"], { ips: ips(2), ports: ["80/tcp", "443/tcp"] }),
    holder(3, ["w3", "web"], { ips: ips(3), ports: ["80/tcp"], out: "stopping" }),
    holder(4, ["tasks.db", "other"], { ips: ips(4) }),
    holder(5, ["db"], { ips: ips(5) }),
  ]),
  vips(),
];

function table(more: readonly TableChange[] = []): NameTable {
  const names = new NameTable();
  applyChanges(names, [...changes, ...more]);
  return names;
}

const served: Attached = { ...on(1), vips: new Set(VIP) };

function ask(
  name: string,
  type: "A" | "AAAA" | "SRV" | "PTR" | "TXT" = "A",
  scope: Attached = served,
  names = table(),
) {
  const query = dnsPacket.encode({ type: "query", id: 1, questions: [{ name, type }] });
  const said = reply(query, names, [scope], "udp");
  if (typeof said === "string") return said;
  const { answers = [] } = dnsPacket.decode(said.bytes);
  const data = answers.map((answer) => ("data" in answer ? answer.data : undefined));
  return data.toSorted((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1));
}

describe("a name with a virtual address", () => {
  test("answers it where the asker's rules translate it, by both names and of both families", () => {
    expect(ask("web")).toEqual([VIP[0]]);
    expect(ask("web.app", "AAAA")).toEqual([VIP[1]]);
    expect(ask("WEB")).toEqual([VIP[0]]);
    expect(ask("web", "TXT")).toEqual([]);
  });

  test("answers its members until then, and of a family that is not translated", () => {
    expect(ask("web", "A", on(1))).toEqual(["10.192.0.1", "10.192.0.2"]);
    const other = { ...on(1), vips: new Set([Ip.parse("10.192.9.2")]) };
    expect(ask("web", "A", other)).toEqual(["10.192.0.1", "10.192.0.2"]);
    const one = { ...on(1), vips: new Set(VIP.slice(0, 1)) };
    expect([ask("web", "A", one), ask("web", "AAAA", one)]).toEqual([
      [VIP[0]],
      ["fd00:1::1", "fd00:1::2"],
    ]);
  });

  test("answers it when nobody is left, and its members again when it ended", () => {
    expect(ask("empty", "A", served, table([vips(["empty"])]))).toEqual([VIP[0]]);
    expect(ask("empty", "A", on(1), table([vips(["empty"])]))).toBe("forward");
    expect(ask("web", "A", served, table([vips([])]))).toEqual(["10.192.0.1", "10.192.0.2"]);
  });

  test("is what its address is called", () => {
    expect(ask("1.9.192.10.in-addr.arpa", "PTR", on(1))).toEqual(["web.app"]);
  });

  test("is the same for the next worker", () => {
    const copy = new TableCopy();
    copy.change(changes);
    const names = new NameTable();
    applyChanges(names, copy.whole());
    expect(ask("web", "A", served, names)).toEqual([VIP[0]]);
  });
});

describe("members", () => {
  test.each(["tasks.web", "tasks.web.app", "Tasks.Web"])("%s", (name) => {
    expect(ask(name)).toEqual(["10.192.0.1", "10.192.0.2"]);
    expect(ask(name, "AAAA")).toEqual(["fd00:1::1", "fd00:1::2"]);
  });

  test("a container of that name comes first; a name that nobody has is Docker's to answer", () => {
    expect(ask("tasks.db")).toEqual(["10.192.0.4"]);
    expect([ask("tasks.nobody"), ask("tasks.example.com"), ask("tasks.")]).toEqual([
      "forward",
      "forward",
      "forward",
    ]);
  });

  test("are waited for as their name is", () => {
    const early = new NameTable();
    applyChanges(early, [network(1, "app", false)]);
    expect([ask("tasks.web", "A", on(1), early), ask("_80._tcp.web", "SRV", on(1), early)]).toEqual(
      ["unknown", "unknown"],
    );
  });
});

describe("SRV records", () => {
  const record = (port: number, target: string) => ({ priority: 0, weight: 0, port, target });

  test.each([
    ["_80._tcp.web", [80, 80]],
    ["_http._tcp.web.app", [80, 80]],
    ["_80._tcp.tasks.web", [80, 80]],
    ["_443._tcp.web", [443]],
    ["_domain._udp.web", [53]],
    ["_53._tcp.web", []],
    ["_81._tcp.web", []],
  ])("%s", (name, ports) => {
    const said = ask(name, "SRV") as { port: number }[];
    expect(said.map(({ port }) => port)).toEqual(ports);
  });

  test("lead to one container each, by a name that has its address", () => {
    expect(ask("_80._tcp.web", "SRV")).toEqual([record(80, "w1.app"), record(80, "w2.app")]);
    expect(ask("w1.app")).toEqual(["10.192.0.1"]);
    expect(ask("_80._tcp.web", "A")).toEqual([]);
  });

  test("of names that nobody here has, or of no port, are Docker's to answer", () => {
    for (const name of ["_80._tcp.nobody", "_sip._tcp.web", "_80._sctp.web", "_80.web"])
      expect(ask(name, "SRV")).toBe("forward");
    expect(askedPort("_80._tcp.")).toBeUndefined();
  });

  test("what does not fit a datagram is cut off at a record, and said to be", () => {
    const many = Array.from({ length: 60 }, (_, i) =>
      holder(100 + i, [`container-${i}`, "many"], { ports: ["80/tcp"] }),
    );
    const query = dnsPacket.encode({
      type: "query",
      id: 1,
      questions: [{ name: "_80._tcp.many", type: "SRV" }],
    });
    const said = reply(query, table([holders(1, many)]), [on(1)], "udp");
    if (typeof said === "string") throw new Error(said);
    const packet = dnsPacket.decode(said.bytes);
    expect(said.bytes.length).toBeLessThanOrEqual(512);
    expect(packet.flag_tc).toBe(true);
    expect(packet.answers?.length).toBeGreaterThan(5);
  });
});
