import type { Targets } from "./target.ts";

/** Everything that reads what others wrote; only what is fed is loaded. */
export const TARGETS: Targets = {
  "plugin-http": async () => (await import("./targets/plugin-http.ts")).pluginHttp(),
  "plugin-body": async () => (await import("./targets/plugin-body.ts")).pluginBody(),
  gossip: async () => (await import("./targets/gossip.ts")).gossip(),
  "cluster-gossip": async () => (await import("./targets/cluster-gossip.ts")).clusterGossip(),
  "sync-stream": async () => (await import("./targets/sync-stream.ts")).syncStream(),
  "sync-request": async () => (await import("./targets/sync-request.ts")).syncRequest(),
  "sync-answer": async () => (await import("./targets/sync-answer.ts")).syncAnswer(),
  "cluster-sync-answer": async () =>
    (await import("./targets/cluster-sync-answer.ts")).clusterSyncAnswer(),
  "state-catch-up": async () => (await import("./targets/state-catch-up.ts")).stateCatchUp(),
  "key-messages": async () => (await import("./targets/key-messages.ts")).keyMessages(),
  "sealed-answer": async () => (await import("./targets/key-messages.ts")).sealedAnswer(),
  claim: async () => (await import("./targets/trust.ts")).claim(),
  "signed-state": async () => (await import("./targets/trust.ts")).signedState(),
  join: async () => (await import("./targets/control.ts")).join(),
  "control-answer": async () => (await import("./targets/control.ts")).controlAnswer(),
  "dns-query": async () => (await import("./targets/dns.ts")).dnsQuery(),
  "dns-stream": async () => (await import("./targets/dns.ts")).dnsStream(),
  environment: async () => (await import("./targets/config.ts")).environment(),
  membership: async () => (await import("./targets/config.ts")).membership(),
  "controller-record": async () => (await import("./targets/config.ts")).controllerRecord(),
  token: async () => (await import("./targets/config.ts")).token(),
  "disk-row": async () => (await import("./targets/disk-row.ts")).diskRow(),
};
