import type { Ip } from "../../shared/ip.ts";
import type { SandboxId } from "./server/port.ts";

/**
 * The virtual addresses that a container's own rules translate by now: written, not only meant. A name is answered with one of
 * them only: for the others, and on hosts without such rules, it answers its members.
 */
export interface ServedVips {
  of(sandbox: SandboxId): ReadonlySet<Ip>;
}

export const NO_SERVED_VIPS: ServedVips = { of: () => new Set() };
