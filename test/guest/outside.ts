import { createSocket } from "node:dgram";
import dnsPacket from "dns-packet";

/** The world outside, as Docker's resolver asks it: every name has the same address. Arguments: where, which. */

const [, , at = "", address = ""] = process.argv;
const socket = createSocket("udp4");
socket.on("message", (query, from) => {
  const { id, questions = [] } = dnsPacket.decode(query);
  const answers = questions.flatMap(({ name, type }) =>
    type === "A" ? [{ name, type, ttl: 1, data: address } as const] : [],
  );
  const { RECURSION_DESIRED, RECURSION_AVAILABLE } = dnsPacket;
  const flags = RECURSION_DESIRED | RECURSION_AVAILABLE;
  const answer = dnsPacket.encode({ type: "response", id, flags, questions, answers });
  socket.send(answer, from.port, from.address);
});
socket.bind(53, at);
