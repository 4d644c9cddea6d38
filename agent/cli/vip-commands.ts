import type { VipList } from "../api/vips.ts";
import { callAgent, type Context } from "./context.ts";
import { print, table } from "./output.ts";

/** Virtual addresses of names, through the agent's socket. */

export async function vipAdd(
  context: Context,
  network: string,
  name: string,
  { sticky = false }: { readonly sticky?: boolean },
): Promise<void> {
  const added = await callAgent<VipList>(context, "POST", "/v1/vips", { network, name, sticky });
  print(context, added, () => {
    const addresses = added.vips.map((vip) => `${vip.name}  ${vip.ips.join(",")}`);
    return [...addresses, ...withoutText(added)].join("\n");
  });
}

export async function vipRemove(context: Context, network: string, name: string): Promise<void> {
  const query = `network=${encodeURIComponent(network)}&name=${encodeURIComponent(name)}`;
  const removed = await callAgent(context, "DELETE", `/v1/vips?${query}`);
  print(
    context,
    removed,
    () => `${name} answers its members again, unless containers that run ask for it by label`,
  );
}

export async function vipList(context: Context, network: string | undefined): Promise<void> {
  const query = network === undefined ? "" : `?network=${encodeURIComponent(network)}`;
  const found = await callAgent<VipList>(context, "GET", `/v1/vips${query}`);
  print(context, found, () => vipListText(found));
}

export function vipListText(found: VipList): string {
  const rows = table(
    ["NETWORK", "NAME", "ADDRESS", "READY", "STICKY", "FROM"],
    found.vips.map(({ network, name, ips, members, ready, sticky, madeBy }) => [
      network,
      name,
      ips.join(","),
      members === undefined ? "?" : `${ready}/${members}`,
      sticky ? "yes" : "no",
      madeBy,
    ]),
  );
  const beside = withoutText(found);
  return found.vips.length === 0 ? rows : [rows, ...beside].join("\n");
}

function withoutText({ without }: VipList): string[] {
  if (without.length === 0) return [];
  return [
    `on hosts of an older version the names answer their members: upgrade overlay-ts on ${without.join(", ")}`,
  ];
}
