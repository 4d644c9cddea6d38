import dnsPacket from "dns-packet";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { NameTable } from "../../../agent/core/names/name-table.ts";
import { applyChanges } from "../../../agent/names/server/apply-changes.ts";
import { refusal, reply, type Transport } from "../../../agent/names/server/answer.ts";
import { Ip } from "../../../shared/ip.ts";
import { holder, holders, network, on } from "../../support/names.ts";

const names = new NameTable();
applyChanges(names, [
  network(1, "app"),
  holders(1, [
    holder(5, ["db"], { ips: [Ip.parse("10.192.0.5"), Ip.parse("fd00:1::5")] }),
    holder(6, ["ill"], { out: "unhealthy" }),
    ...Array.from({ length: 200 }, (_, i) =>
      holder(1000 + i, ["many"], {
        ips: [Ip.parse(`10.193.0.${i + 1}`), Ip.parse(`fd00:2::${(i + 1).toString(16)}`)],
      }),
    ),
    holder(3000, [`${"x".repeat(63)}.${"y".repeat(63)}`]),
  ]),
  network(2, "other"),
  holders(2, [holder(7, ["secret"])]),
]);
const scope = [on(1)];

interface Query {
  readonly name?: string;
  readonly type?: string;
  readonly flags?: number;
  readonly edns?: { size: number; version?: number; flags?: number };
}

function query({ name = "db", type = "A", flags = 0x100, edns }: Query = {}): Buffer {
  return dnsPacket.encode({
    type: "query",
    id: 0x1234,
    flags,
    questions: [{ name, type: type as "A", class: "IN" }],
    additionals:
      edns === undefined
        ? []
        : [
            {
              type: "OPT",
              name: ".",
              udpPayloadSize: edns.size,
              extendedRcode: 0,
              ednsVersion: edns.version ?? 0,
              flags: edns.flags ?? 0,
              flag_do: false,
              options: [],
            },
          ],
  });
}

function said(bytes: Buffer, transport: Transport = "udp"): dnsPacket.DecodedPacket {
  const answer = reply(bytes, names, scope, transport);
  if (typeof answer === "string") throw new Error(answer);
  expect(dnsPacket.decode(answer.bytes).answers).toHaveLength(answer.records);
  return dnsPacket.decode(answer.bytes);
}

const data = (packet: dnsPacket.DecodedPacket): string[] =>
  (packet.answers ?? []).map((answer) =>
    "data" in answer && typeof answer.data === "string" ? answer.data : "",
  );
const rcode = ({ flags = 0 }: dnsPacket.DecodedPacket): number => flags & 15;
const opt = ({ additionals = [] }: dnsPacket.DecodedPacket) =>
  additionals[0] as dnsPacket.OptAnswer | undefined;
const what = (bytes: Buffer): string => {
  const answer = reply(bytes, names, scope, "udp");
  return typeof answer === "string" ? answer : "answer";
};

describe("a name of ours", () => {
  test("the answer repeats id, question and RD, and says RA", () => {
    const packet = said(query());
    expect(packet).toMatchObject({
      type: "response",
      id: 0x1234,
      questions: [{ name: "db", type: "A", class: "IN" }],
      answers: [{ name: "db", type: "A", class: "IN", ttl: 2, data: "10.192.0.5" }],
      additionals: [],
    });
    expect(packet.flags).toBe(dnsPacket.RECURSION_DESIRED | dnsPacket.RECURSION_AVAILABLE);
    expect(said(query({ flags: 0x10 })).flags).toBe(0x10 | dnsPacket.RECURSION_AVAILABLE);
  });

  test.each([
    ["A", "10.192.0.5"],
    ["AAAA", "fd00:1::5"],
  ])("%s", (type, address) => expect(data(said(query({ type })))).toEqual([address]));

  test.each(["dB", "DB.ApP"])("asked as %s it is answered as %s", (name) => {
    const packet = said(query({ name }));
    expect(packet.questions).toMatchObject([{ name }]);
    expect(packet.answers).toMatchObject([{ name, data: "10.192.0.5" }]);
  });

  test.each(["MX", "TXT", "SRV", "NS", "UNKNOWN_65", "UNKNOWN_255", "PTR"])(
    "%s: there are none",
    (type) => {
      const packet = said(query({ type }));
      expect([rcode(packet), packet.answers]).toEqual([0, []]);
    },
  );

  test("with nobody who may answer: no records, and never forwarded", () => {
    for (const type of ["A", "AAAA", "TXT"]) {
      const packet = said(query({ name: "ill", type }));
      expect([rcode(packet), packet.answers]).toEqual([0, []]);
    }
  });

  test.each([
    ["5.0.192.10.in-addr.arpa", "db.app"],
    ["5.0.192.10.IN-ADDR.arpa", "db.app"],
    [`5.${"0.".repeat(23)}1.0.0.0.0.0.d.f.ip6.arpa`, "db.app"],
  ])("PTR %s", (name, own) => {
    expect(data(said(query({ name, type: "PTR" })))).toEqual([own]);
    expect(said(query({ name, type: "A" })).answers).toEqual([]);
  });
});

describe("not ours", () => {
  test.each([
    "nobody",
    "db.other",
    "secret",
    "www.example.com",
    "9.9.9.9.in-addr.arpa",
    "05.0.192.10.in-addr.arpa",
    "256.0.192.10.in-addr.arpa",
    "0.192.10.in-addr.arpa",
    "1.ip6.arpa",
    "arpa",
    ".",
  ])("%s", (name) => {
    for (const type of ["A", "PTR", "AAAA"]) expect(what(query({ name, type }))).toBe("forward");
  });

  const changed = (change: (bytes: Buffer) => void, from: Query = {}): Buffer => {
    const bytes = query(from);
    change(bytes);
    return bytes;
  };

  test.each<[string, Buffer]>([
    ["nothing", Buffer.alloc(0)],
    ["half a header", query().subarray(0, 11)],
    ["half a question", query().subarray(0, 14)],
    ["an answer", changed((bytes) => bytes.writeUInt8(0x81, 2))],
    ["IQUERY", changed((bytes) => bytes.writeUInt8(0x08, 2))],
    ["NOTIFY", changed((bytes) => bytes.writeUInt8(0x20, 2))],
    ["UPDATE", changed((bytes) => bytes.writeUInt8(0x28, 2))],
    ["no question", changed((bytes) => bytes.writeUInt16BE(0, 4))],
    ["two questions", changed((bytes) => bytes.writeUInt16BE(2, 4))],
    ["an answer in it", changed((bytes) => bytes.writeUInt16BE(1, 6))],
    ["IXFR's authority", changed((bytes) => bytes.writeUInt16BE(1, 8))],
    ["65,535 additionals", changed((bytes) => bytes.writeUInt16BE(65535, 10))],
    ["an additional that is missing", changed((bytes) => bytes.writeUInt16BE(1, 10))],
    ["class CH", changed((bytes) => bytes.writeUInt16BE(3, bytes.length - 2))],
    ["class ANY", changed((bytes) => bytes.writeUInt16BE(255, bytes.length - 2))],
    [
      "mDNS's wish for one answer",
      changed((bytes) => bytes.writeUInt16BE(0x8001, bytes.length - 2)),
    ],
    ["a name that points at itself", changed((bytes) => bytes.writeUInt16BE(0xc00c, 12))],
    [
      "a dot inside a label",
      changed((bytes) => bytes.set([6, 0x64, 0x62, 0x2e], 12), { name: "db.app" }),
    ],
    [
      "two OPT records",
      Buffer.concat([
        changed((bytes) => bytes.writeUInt16BE(2, 10), { edns: { size: 1232 } }),
        query({ edns: { size: 1232 } }).subarray(-11),
      ]),
    ],
  ])("%s is not for us to answer", (_, bytes) => expect(what(bytes)).toBe("forward"));
});

describe("how much is said", () => {
  test.each<[string, Query, Transport, number]>([
    ["without EDNS", {}, "udp", 512],
    ["EDNS with less than that", { edns: { size: 100 } }, "udp", 512],
    ["EDNS", { edns: { size: 1232 } }, "udp", 1232],
    ["EDNS with more than we give", { edns: { size: 65535 } }, "udp", 4096],
  ])("%s: what fits, and that it is not all", (_, asked, transport, limit) => {
    for (const [type, recordBytes] of [
      ["A", 20],
      ["AAAA", 32],
    ] as const) {
      const answer = reply(query({ ...asked, name: "many", type }), names, scope, transport);
      if (typeof answer === "string") throw new Error(answer);
      const whole = answer.records === 200;
      expect(answer.bytes.length).toBeLessThanOrEqual(limit);
      if (!whole) expect(answer.bytes.length + recordBytes).toBeGreaterThan(limit);
      const { flags = 0 } = dnsPacket.decode(answer.bytes);
      expect((flags & dnsPacket.TRUNCATED_RESPONSE) !== 0).toBe(!whole);
    }
  });

  test("over TCP all of it", () => {
    const packet = said(query({ name: "many" }), "tcp");
    expect(new Set(data(packet)).size).toBe(200);
    expect((packet.flags ?? 0) & dnsPacket.TRUNCATED_RESPONSE).toBe(0);
  });

  test("EDNS is answered with EDNS: our size, version 0, DO repeated, no options", () => {
    const packet = said(query({ edns: { size: 1232, flags: 0x8000 } }));
    expect(opt(packet)).toMatchObject({
      type: "OPT",
      udpPayloadSize: 4096,
      ednsVersion: 0,
      extendedRcode: 0,
      flag_do: true,
      options: [],
    });
  });

  test("another version of EDNS is BADVERS", () => {
    const packet = said(query({ edns: { size: 1232, version: 1 } }));
    expect([rcode(packet), packet.answers]).toEqual([0, []]);
    expect(opt(packet)).toMatchObject({ extendedRcode: 1, ednsVersion: 0 });
    expect(what(query({ name: "nobody", edns: { size: 1232, version: 1 } }))).toBe("forward");
  });
});

describe("refusal", () => {
  test("NXDOMAIN with the question as it was asked", () => {
    const packet = dnsPacket.decode(refusal(query({ name: "No.Where", edns: { size: 1232 } }))!);
    expect(packet).toMatchObject({ id: 0x1234, questions: [{ name: "No.Where" }], answers: [] });
    expect(rcode(packet)).toBe(3);
    expect(opt(packet)).toMatchObject({ udpPayloadSize: 4096 });
  });

  test("of what is no query: nothing", () => expect(refusal(Buffer.alloc(20))).toBeUndefined());
});

describe("property", () => {
  const label = fc.stringMatching(/^[a-zA-Z0-9_-]{1,63}$/);
  const asked = fc.oneof(
    fc.constantFrom("db", "DB.app", "ill", "many", "5.0.192.10.in-addr.arpa"),
    fc.array(label, { minLength: 1, maxLength: 3 }).map((labels) => labels.join(".")),
  );
  const edns = fc.option(
    fc.record({
      size: fc.integer({ min: 1, max: 65535 }),
      version: fc.integer({ min: 0, max: 2 }),
    }),
    { nil: undefined },
  );
  const transport = fc.constantFrom<Transport>("udp", "tcp");

  test("what is asked comes back byte by byte, within what the asker takes", () => {
    fc.assert(
      fc.property(asked, fc.constantFrom("A", "AAAA", "PTR", "TXT"), edns, transport, (...of) => {
        const [name, type, with_, over] = of;
        const bytes = query({ name, type, ...(with_ === undefined ? {} : { edns: with_ }) });
        const answer = reply(bytes, names, scope, over);
        if (typeof answer === "string") return;
        const end = 12 + name.length + 2 + 4;
        expect(answer.bytes.subarray(12, end)).toEqual(bytes.subarray(12, end));
        expect(answer.bytes.subarray(0, 2)).toEqual(bytes.subarray(0, 2));
        const limit = over === "tcp" ? 65535 : Math.min(Math.max(with_?.size ?? 0, 512), 4096);
        expect(answer.bytes.length).toBeLessThanOrEqual(limit);
        const again = dnsPacket.decode(answer.bytes);
        expect(dnsPacket.encode(again)).toEqual(answer.bytes);
      }),
      { numRuns: 500 },
    );
  });

  /** Queries with some bytes changed, cut, or more of them: nearer to the truth than noise. */
  const damaged = fc
    .tuple(
      asked.map((name) => query({ name, edns: { size: 1232 } })),
      fc.array(fc.tuple(fc.nat(600), fc.nat(255)), { maxLength: 6 }),
      fc.nat(600),
      fc.uint8Array({ maxLength: 20 }),
    )
    .map(([bytes, changes, cut, more]) => {
      for (const [at, value] of changes) bytes[at % bytes.length] = value;
      return Buffer.concat([bytes.subarray(0, cut), more]);
    });

  test("whatever comes in: an answer that can be read, or none; never an error", () => {
    fc.assert(
      fc.property(
        fc.oneof(
          damaged,
          fc.uint8Array({ maxLength: 600 }).map((bytes) => Buffer.from(bytes)),
        ),
        transport,
        (bytes, over) => {
          const answer = reply(bytes, names, scope, over);
          refusal(bytes);
          if (typeof answer === "string") return;
          const packet = dnsPacket.decode(answer.bytes);
          expect(packet.id).toBe(bytes.readUInt16BE(0));
          expect(packet.type).toBe("response");
        },
      ),
      { numRuns: 5000 },
    );
  });
});
