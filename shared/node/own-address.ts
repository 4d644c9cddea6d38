import { readFileSync } from "node:fs";
import { networkInterfaces } from "node:os";
import { Ip } from "../ip.ts";

/** Addresses of this machine's own in the kernel's routes, `/proc/net/fib_trie` (net/ipv4/fib_trie.c). */
export function ipv4Local(fibTrie: string): string[] {
  return [...fibTrie.matchAll(/\|-- (\S+)\n(?:\s+\/.*\n)*?\s+\/32 host LOCAL/g)].map(
    ([, ip = ""]) => ip,
  );
}

/** Addresses in `/proc/net/if_inet6` (net/ipv6/addrconf.c): 32 digits each. */
export function ipv6Local(ifInet6: string): string[] {
  return [...ifInet6.matchAll(/^[0-9a-f]{32}/gm)].map(([digits]) =>
    (digits.match(/.{4}/g) ?? []).join(":"),
  );
}

function read(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    // A kernel without IPv6 has no such file.
    return "";
  }
}

function* addresses(links: ReturnType<typeof networkInterfaces>): Generator<string> {
  for (const link of Object.values(links)) for (const { address } of link ?? []) yield address;
  // Only when it was not among these, since routes may be many: libuv leaves out an interface without carrier: who pulls a cable has not taken the address away.
  yield* ipv4Local(read("/proc/thread-self/net/fib_trie"));
  yield* ipv6Local(read("/proc/thread-self/net/if_inet6"));
}

/**
 * Whether some interface of this machine has the address, with a carrier or without. While the kernel does not say which
 * there are, for want of a descriptor or of memory, it has: no host is to move because of that.
 */
export function hasAddress(ip: Ip, read = networkInterfaces): boolean {
  let links: ReturnType<typeof networkInterfaces>;
  try {
    links = read();
  } catch {
    return true;
  }
  for (const address of addresses(links)) {
    const parsed = Ip.safeParse(address);
    if (parsed.success && parsed.data === ip) return true;
  }
  return false;
}
