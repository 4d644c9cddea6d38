import { kernelGuest } from "./kernel-guest.ts";

// Linux 6.12: the tunnels' traffic over IPv4, keys over both families, a host that changes its address, what is made by
// hand, four minutes at rest; in the soak, the rest too.
const usual = [
  "ipsec-ipv4",
  "ipsec-keys-ipv4",
  "ipsec-keys-ipv6",
  "ipsec-changeover",
  "hand-made",
  "wireguard-traffic",
];
const others = ["ipsec-ipv6", "ipsec-contract", "wireguard-contract"];
const { SOAK } = process.env;
kernelGuest("trixie", SOAK ? [...usual, ...others] : usual, SOAK ? 3_600_000 : 900_000);
