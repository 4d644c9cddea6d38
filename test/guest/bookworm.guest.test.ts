import { EVERY_INSIDE_TEST, kernelGuest } from "./kernel-guest.ts";

// Linux 6.1, the oldest that a host may have, six minutes at rest: all but what 6.12 (trixie) has of the same suite as
// its IPv6 half here; in the soak that too.
const { SOAK } = process.env;
const files = EVERY_INSIDE_TEST.filter((name) => SOAK !== undefined || name !== "ipsec-ipv4");
kernelGuest("bookworm", files, SOAK ? 3_600_000 : 1_500_000);
