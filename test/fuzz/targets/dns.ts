import dnsPacket from "dns-packet";
import { NameTable } from "../../../agent/core/names/name-table.ts";
import { refusal, reply } from "../../../agent/names/server/answer.ts";
import { applyChanges } from "../../../agent/names/server/apply-changes.ts";
import { framed, Unframer } from "../../../agent/names/server/framing.ts";
import { closedAnswer } from "../../../agent/names/server/relay.ts";
import { holder, holders, network, on } from "../../support/names.ts";
import { hold, type Target } from "../target.ts";

const QUESTIONS = [
  ["db", "A"],
  ["DB.app", "AAAA"],
  ["many", "A"],
  ["ill", "A"],
  ["6.0.192.10.in-addr.arpa", "PTR"],
  ["not-ours", "A"],
  ["secret", "MX"],
] as const;

/** A container's question over UDP and TCP: answered, refused, or somebody else's; never longer than it takes. */
export function dnsQuery(): Promise<Target> {
  const names = table();
  return Promise.resolve({
    decoder: "reply, refusal, closedAnswer",
    recorded: QUESTIONS.flatMap(([name, type]) => [query(name, type), query(name, type, 1232)]),
    feed: (input) => {
      const asked = Buffer.from(input);
      const overTcp = reply(asked, names, [on(1)], "tcp");
      const overUdp = reply(asked, names, [on(1)], "udp");
      hold(typeof overTcp === typeof overUdp, "UDP and TCP understand different things");
      const refused = refusal(asked);
      closedAnswer(asked, Buffer.from(input.subarray(input.length >> 1)));
      hold(asked.equals(input), "the question was changed");
      if (typeof overUdp === "string") return refused === undefined ? "not understood" : overUdp;
      if (typeof overTcp === "string") return overTcp;
      hold(overUdp.bytes.length <= 4096 && overTcp.bytes.length <= 65535, "an answer too long");
      hold(overUdp.bytes.readUInt16BE(0) === asked.readUInt16BE(0), "another question's answer");
      const said = dnsPacket.decode(overTcp.bytes);
      hold((said.answers ?? []).length === overTcp.records, "records that are not there");
      return undefined;
    },
  });
}

/** Questions over TCP, in whatever parts: what comes out is what went in, and not more is held. */
export function dnsStream(): Promise<Target> {
  const messages = QUESTIONS.map(([name, type]) => framed(query(name, type)));
  return Promise.resolve({
    decoder: "Unframer",
    recorded: [...messages, Buffer.concat(messages)],
    feed: (input) => {
      const whole = new Unframer().push(Buffer.from(input));
      const parts = new Unframer();
      const step = 1 + (input.length % 7);
      const found: Buffer[] = [];
      for (let at = 0; at < input.length; at += step)
        found.push(...parts.push(Buffer.from(input.subarray(at, at + step))));
      hold(
        found.length === whole.length && found.every((message, i) => message.equals(whole[i]!)),
        "parts make other messages than the whole",
      );
      return whole.length === 0 ? "no message yet" : undefined;
    },
  });
}

function table(): NameTable {
  const names = new NameTable();
  applyChanges(names, [
    network(1, "app"),
    holders(1, [
      holder(5, ["db"]),
      holder(6, ["ill"], { out: "unhealthy" }),
      ...Array.from({ length: 200 }, (_, i) => holder(1000 + i, ["many"])),
    ]),
    network(2, "other"),
    holders(2, [holder(7, ["secret"])]),
  ]);
  return names;
}

function query(name: string, type: "A" | "AAAA" | "PTR" | "MX", edns?: number): Buffer {
  const opt = {
    type: "OPT" as const,
    name: "." as const,
    udpPayloadSize: edns ?? 0,
    extendedRcode: 0,
    ednsVersion: 0,
    flags: 0,
    flag_do: false,
    options: [],
  };
  return dnsPacket.encode({
    type: "query",
    id: 0x1234,
    flags: dnsPacket.RECURSION_DESIRED,
    questions: [{ name, type, class: "IN" }],
    additionals: edns === undefined ? [] : [opt],
  });
}
