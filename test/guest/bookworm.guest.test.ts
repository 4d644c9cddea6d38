import { EVERY_INSIDE_TEST, kernelGuest } from "./kernel-guest.ts";

// Linux 6.1, the oldest that a host may have, four minutes at rest: whole agents under ESP, its traffic over IPv6, and
// contracts. Over IPv4, keys, a change of address, what is made by hand and WireGuard's traffic are on 6.12 (trixie), and
// in the soak here too.
const { SOAK } = process.env;
const onTrixie = [
  "ipsec-ipv4",
  "ipsec-keys-ipv4",
  "ipsec-keys-ipv6",
  "ipsec-changeover",
  "hand-made",
  "wireguard-traffic",
];
const files = EVERY_INSIDE_TEST.filter((name) => SOAK !== undefined || !onTrixie.includes(name));
kernelGuest("bookworm", files, SOAK ? 3_600_000 : 1_500_000);
