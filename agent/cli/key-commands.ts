import type { KeySchedule } from "../../shared/cluster-state.ts";
import { OverlayError } from "../../shared/errors.ts";
import { counted, exactBytes, exactDuration } from "../../shared/text.ts";
import type { Rotated } from "../api/routes.ts";
import { callAgent, callController, type Context, parseCount, parseDuration } from "./context.ts";
import { print, progress } from "./output.ts";
import { onController } from "./on-controller.ts";
/** Keys, their schedule, and tokens. */

export interface RotateOptions {
  readonly node?: string;
  readonly network?: string;
}

export async function keyRotate(context: Context, options: RotateOptions): Promise<void> {
  if (options.node !== undefined && options.network !== undefined)
    throw new OverlayError({
      code: "INVALID",
      message: "--node and --network are keys of different kinds",
      next: "give one of them",
    });
  const query = new URLSearchParams({ ...options }).toString();
  const answer = await callAgent<Rotated>(context, "POST", `/v1/keys/rotate?${query}`);
  print(context, answer, () => rotatedText(answer));
}

export function rotatedText({ rotated, wireguard }: Rotated): string {
  const texts = [
    ...(rotated.length === 0 ? [] : [`new keys are being made: ${rotated.join(", ")}`]),
    ...(wireguard
      ? ["this host gets a new WireGuard key: all others have it in some seconds"]
      : []),
  ];
  return texts.join("\n") || "this host is on no encrypted network: it has no key to change";
}

export interface ScheduleOptions {
  readonly ipsec?: string;
  readonly ipsecPackets?: string;
  readonly ipsecBytes?: string;
  readonly gossip?: string;
}

/** Shows the schedule, and changes what is given of it. */
export async function keySchedule(context: Context, options: ScheduleOptions): Promise<void> {
  const given = <T>(text: string | undefined, parse: (text: string) => T): T | undefined =>
    text === undefined ? undefined : parse(text);
  const body = {
    ipsecMs: given(options.ipsec, parseDuration),
    ipsecPackets: given(options.ipsecPackets, parseCount),
    ipsecBytes: given(options.ipsecBytes, parseCount),
    gossipMs: given(options.gossip, parseDuration),
  };
  const held = await onController(() =>
    callController<KeySchedule>(context, "POST", "/v1/key-schedule", body),
  );
  print(context, held, () => scheduleText(held));
}

export function scheduleText({ ipsecMs, ipsecPackets, ipsecBytes, gossipMs }: KeySchedule): string {
  return [
    `IPsec   after ${exactDuration(ipsecMs)}, ${ipsecPackets} packets or ${exactBytes(ipsecBytes)}, whatever comes first`,
    `gossip  after ${exactDuration(gossipMs)}`,
  ].join("\n");
}

export interface TokenOptions {
  readonly ttl: string;
  readonly uses: string;
  readonly network?: readonly string[];
}

export async function tokenCreate(context: Context, options: TokenOptions): Promise<void> {
  const uses = parseCount(options.uses);
  const body = {
    ttlMs: parseDuration(options.ttl),
    uses,
    networks: options.network,
  };
  const made = await onController(() =>
    callController<{ token: string; expiresAtMs: number }>(context, "POST", "/v1/tokens", body),
  );
  print(context, made, () => made.token);
  const until = new Date(made.expiresAtMs).toISOString();
  progress(`holds until ${until}, for ${counted(uses, "host")}`);
}
