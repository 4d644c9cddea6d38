import { gauge, type MetricFamily, only, type Sample } from "../../shared/metric-family.ts";
import type { MemberFacts } from "./metric-facts.ts";
import type { NetworkStatus } from "./status.ts";

/** A host is on some of a cluster's 4,000 networks; of more than these the first by name are shown. */
const MOST_NETWORKS = 256;

/** Of the networks that this host is on. */
export function networkFamilies(member: MemberFacts | undefined): MetricFamily[] {
  const here = member?.status.networks ?? [];
  const shown = labelled(here).slice(0, MOST_NETWORKS);
  const each = (value: (one: NetworkStatus) => number | boolean | undefined): Sample[] =>
    shown.flatMap(([network, one]) =>
      only(value(one)).map((sample) => ({ ...sample, labels: { network } })),
    );
  return [
    gauge(
      "overlay_ts_networks_here",
      `Networks that this host is on; at most ${MOST_NETWORKS} of them have series of their own.`,
      only(member && here.length),
    ),
    gauge(
      "overlay_ts_network_endpoints",
      "Containers' interfaces, and hosts' own, on this host and on others.",
      shown.flatMap(([network, { endpoints, remotes }]) => [
        { labels: { network, where: "here" }, value: endpoints },
        { labels: { network, where: "elsewhere" }, value: remotes },
      ]),
    ),
    gauge(
      "overlay_ts_network_in_sync",
      "1: all that others say of it was heard since the start, or nobody else is on it.",
      each(({ inSync, alone }) => inSync || alone),
    ),
    gauge(
      "overlay_ts_network_addresses",
      "Addresses of this host's own blocks, which it gives out without the controller.",
      each(({ id }) => member?.addresses.get(id)?.total),
    ),
    gauge(
      "overlay_ts_network_addresses_free",
      "Of these, those that nobody has.",
      each(({ id }) => member?.addresses.get(id)?.free),
    ),
    gauge(
      "overlay_ts_endpoints_ignored",
      "Endpoints that some host claims and the rules do not allow: `overlay-ts status` names them.",
      shown.flatMap(([network, { ignored }]) => {
        const reasons = Map.groupBy(ignored, ({ reason }) => reason);
        return [...reasons].map(([reason, { length }]) => ({
          labels: { network, reason },
          value: length,
        }));
      }),
    ),
  ];
}

/** By name, as people know them; by id where there is none, or two have it for a moment. */
function labelled(networks: readonly NetworkStatus[]): [string, NetworkStatus][] {
  const names = Map.groupBy(networks, ({ name }) => name);
  return networks
    .map((one): [string, NetworkStatus] => {
      const isOnly = one.name !== undefined && names.get(one.name)?.length === 1;
      return [isOnly ? one.name : one.id, one];
    })
    .toSorted(([a], [b]) => (a < b ? -1 : 1));
}
