import { kernelGuest } from "./kernel-guest.ts";

// Linux 6.12: the tunnels' traffic, four minutes at rest; in the soak, their keys too.
const traffic = ["ipsec-ipv4", "ipsec-changeover", "wireguard-traffic"];
const keys = ["ipsec-ipv6", "ipsec-keys", "ipsec-contract", "wireguard-contract"];
const { SOAK } = process.env;
kernelGuest("trixie", SOAK ? [...traffic, ...keys] : traffic, SOAK ? 3_600_000 : 900_000);
