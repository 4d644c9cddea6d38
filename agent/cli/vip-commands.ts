import type { VipList, VipRow } from "../api/vips.ts";
import { callAgent, type Context } from "./context.ts";
import { type Columns, list, type Listing, type OfNetworkOptions, oneNetwork } from "./listing.ts";
import { print } from "./output.ts";

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

const COLUMNS: Columns<VipRow> = {
  NETWORK: ({ network }) => network,
  NAME: ({ name }) => name,
  ADDRESS: ({ ips }) => ips.join(","),
  READY: ({ members, ready }) => (members === undefined ? "?" : `${ready}/${members}`),
  STICKY: ({ sticky }) => (sticky ? "yes" : "no"),
  FROM: ({ madeBy }) => madeBy,
};

export async function vipList(
  context: Context,
  given: string | undefined,
  options: OfNetworkOptions,
): Promise<void> {
  const network = oneNetwork(given, options.network);
  const query = network === undefined ? "" : `?network=${encodeURIComponent(network)}`;
  const found = await callAgent<VipList>(context, "GET", `/v1/vips${query}`);
  list(context, vipListing(found), options);
}

export function vipListing(found: VipList): Listing<VipRow> {
  return {
    rows: found.vips,
    columns: COLUMNS,
    id: "NAME",
    json: (vips) => ({ ...found, vips }),
    beside: (vips) => (vips.length === 0 ? [] : withoutText(found)),
  };
}

function withoutText({ without }: VipList): string[] {
  if (without.length === 0) return [];
  return [
    `on hosts of an older version the names answer their members: upgrade overlay-ts on ${without.join(", ")}`,
  ];
}
