/** Who asked, as the kernel says it. */
export interface Client {
  readonly address: string;
  readonly port: number;
}

/** Docker's resolver in every sandbox: `resolverIPSandbox` of libnetwork/sandbox_dns_unix.go. */
export const RESOLVER_ADDRESS = "127.0.0.11";
export const DNS_PORT = 53;
const RESOLVER_BYTES = [127, 0, 0, 11] as const;

const IP_BYTES = 20;
const UDP_BYTES = 8;
const IPPROTO_UDP = 17;
const TTL = 64;

/**
 * The client's own packet once more (RFC 791, RFC 768), for a raw socket: Docker's resolver answers
 * the client itself. The kernel fills in id and checksum of the IP header (raw(7)); UDP's is left
 * out, as RFC 768 allows over IPv4.
 */
export function clientPacket({ address, port }: Client, query: Buffer): Buffer {
  const bytes = Buffer.alloc(IP_BYTES + UDP_BYTES + query.length);
  bytes[0] = 0x45;
  bytes.writeUInt16BE(bytes.length, 2);
  bytes[8] = TTL;
  bytes[9] = IPPROTO_UDP;
  let at = 12;
  for (const part of address.split(".")) bytes[at++] = Number(part);
  bytes.set(RESOLVER_BYTES, 16);
  bytes.writeUInt16BE(port, 20);
  bytes.writeUInt16BE(DNS_PORT, 22);
  bytes.writeUInt16BE(UDP_BYTES + query.length, 24);
  query.copy(bytes, IP_BYTES + UDP_BYTES);
  return bytes;
}
