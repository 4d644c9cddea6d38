import { existsSync, readFileSync, rmSync } from "node:fs";
import { z } from "zod";
import type { Failure } from "../../shared/errors.ts";
import { Ip } from "../../shared/ip.ts";
import { writeSecret } from "../../shared/node/files.ts";
import type { AgentFiles } from "./membership-files.ts";
import { addressGone } from "./own-address.ts";

/** A `node readdress` that the controller did not answer: what `status` of a host without its address says. */
const Waiting = z.object({
  format: z.literal(1),
  /** Where the host wants to be. */
  address: Ip,
  /** Where the controller was asked. */
  controller: Ip,
});
type Waiting = z.infer<typeof Waiting>;

type Files = Pick<AgentFiles, "readdressing">;

export function rememberWaiting(
  { readdressing }: Files,
  { address, controller }: Omit<Waiting, "format">,
): void {
  writeSecret(readdressing, `${JSON.stringify({ format: 1, address, controller })}\n`);
}

/**
 * Why a host cannot work at the address that it was admitted with; undefined: it has it, and nothing waits any more.
 * @param local by its membership
 */
export function whyNotHere(files: Files, local: Ip, has: (ip: Ip) => boolean): Failure | undefined {
  if (!has(local)) return addressGone(local, read(files));
  rmSync(files.readdressing, { force: true });
  return undefined;
}

/** One that cannot be read is none: it is only a reminder. */
function read({ readdressing }: Files): Waiting | undefined {
  if (!existsSync(readdressing)) return undefined;
  try {
    return Waiting.parse(JSON.parse(readFileSync(readdressing, "utf8")));
  } catch {
    return undefined;
  }
}
