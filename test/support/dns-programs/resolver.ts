import { createSocket } from "node:dgram";
import { createServer } from "node:net";
import dnsPacket from "dns-packet";
import { framed, Unframer } from "../../../agent/names/server/framing.ts";

/**
 * Stands in for Docker's resolver: on ports of its choice on 127.0.0.11, as libnetwork's is. What it
 * says is told by the name: `docker` is a container of its own, `www.test` is outside, `big.test` is
 * more than a plain UDP answer takes, `servfail.…`, `refused.…` and `silent.…` are what they say.
 */

const ADDRESS = process.argv[2] ?? "127.0.0.11";
const PORT = Number(process.argv[3] ?? 0);

function answer(query: Buffer, limit: number): Buffer | undefined {
  const { id, flags = 0, questions = [] } = dnsPacket.decode(query);
  const [{ name, type } = { name: "", type: "A" }] = questions;
  const rule = name.toLowerCase().split(".")[0];
  if (rule === "silent") return undefined;
  const data =
    rule === "docker"
      ? ["172.18.0.2"]
      : rule === "own53"
        ? ["192.0.2.53"]
        : rule === "big"
          ? Array.from({ length: 100 }, (_, i) => `192.0.2.${i + 1}`)
          : name.toLowerCase().endsWith(".test")
            ? ["192.0.2.1"]
            : [];
  const rcode = rule === "servfail" ? 2 : rule === "refused" ? 5 : data.length === 0 ? 3 : 0;
  const encode = (shown: string[]): Buffer =>
    dnsPacket.encode({
      type: "response",
      id: id ?? 0,
      flags:
        (flags & dnsPacket.RECURSION_DESIRED) |
        dnsPacket.RECURSION_AVAILABLE |
        (shown.length < data.length ? dnsPacket.TRUNCATED_RESPONSE : 0) |
        rcode,
      questions,
      answers:
        rcode !== 0 || type !== "A"
          ? []
          : shown.map((ip) => ({ type: "A", class: "IN", name, ttl: 600, data: ip })),
    });
  const whole = encode(data);
  return whole.length <= limit ? whole : encode(data.slice(0, 10));
}

const udp = createSocket("udp4");
udp.on("message", (query, { address, port }) => {
  const bytes = answer(query, 512);
  if (bytes !== undefined) udp.send(bytes, port, address);
});
const tcp = createServer((socket) => {
  const unframer = new Unframer();
  socket.on("error", () => {});
  socket.on("data", (chunk) => {
    for (const query of unframer.push(chunk)) {
      const bytes = answer(query, 65535);
      if (bytes !== undefined) socket.write(framed(bytes));
    }
  });
});
udp.bind(PORT, ADDRESS, () =>
  tcp.listen(PORT, ADDRESS, () => {
    const address = tcp.address();
    if (typeof address === "object")
      process.send?.({ udp: udp.address().port, tcp: address?.port });
  }),
);
process.on("disconnect", () => process.exit());
