import { EVERY_INSIDE_TEST, kernelGuest } from "./kernel-guest.ts";

// Linux 6.1, the oldest that a host may have: all of it, which takes eleven minutes at rest.
kernelGuest("bookworm", EVERY_INSIDE_TEST, process.env["SOAK"] ? 3_600_000 : 1_500_000);
