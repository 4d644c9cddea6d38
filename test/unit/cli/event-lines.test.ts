import { expect, test } from "vitest";
import type { Happening } from "../../../agent/core/events/events.ts";
import { eventLine } from "../../../agent/cli/event-lines.ts";
import { Ip } from "../../../shared/ip.ts";
import { app, endpoint, nodeId } from "../../support/cluster.ts";

const network = { network: "app", id: app.id };
const ips = ["10.192.0.5", "fd00:192::5"].map((ip) => Ip.parse(ip));
const at = { host: "h2", node: nodeId(2), endpoint: endpoint(2, 5).id, ips };
const db = { ...network, ...at, names: ["db", "postgres", "0123456789ab"] };
const host = { host: "h2", node: nodeId(2) };

test.each<[Happening | { kind: "started" }, string]>([
  [{ kind: "started" }, "-  agent  started"],
  [{ kind: "in", ...db, state: "in" }, "app  db  in  10.192.0.5,fd00:192::5 on h2, also postgres"],
  [
    { kind: "out", ...db, names: ["db"], ips: ips.slice(0, 1), state: "unhealthy" },
    "app  db  out  unhealthy: 10.192.0.5 on h2",
  ],
  [
    { kind: "out", ...db, names: [], ips: [], state: "no-address" },
    "app  (00020005)  out  no-address: no address on h2",
  ],
  [
    { kind: "changed", ...db, names: ["db"], state: "in", ips: ips.slice(1) },
    "app  db  changed  fd00:192::5 on h2",
  ],
  [{ kind: "gone", ...db, ips: ips.slice(0, 1) }, "app  db  gone  10.192.0.5 on h2, also postgres"],
  [{ kind: "network-appeared", ...network, named: true }, "app  -  appeared"],
  [
    { kind: "network-appeared", ...network, network: "0a0a0a0a0a0a", named: false },
    "0a0a0a0a0a0a  -  appeared  without a name",
  ],
  [{ kind: "network-named", ...network, named: true }, `app  -  named  its id is ${app.id}`],
  [{ kind: "network-here", ...network, named: true }, "app  -  here  this host is on it"],
  [
    { kind: "network-not-here", ...network, named: true },
    "app  -  not-here  this host is on it no more",
  ],
  [{ kind: "network-removed", ...network, named: true }, "app  -  removed  on this engine"],
  [{ kind: "network-put-back", ...network, named: true }, "app  -  put-back  on this engine"],
  [{ kind: "network-ended", ...network, named: true }, "app  -  ended"],
  [{ kind: "host-joined", ...host }, "-  h2  joined"],
  [{ kind: "host-left", ...host }, "-  h2  left  the cluster"],
  [{ kind: "host-back", ...host, holds: [] }, "-  h2  back"],
  [
    {
      kind: "host-unreachable",
      ...host,
      holds: [
        { ...network, names: ["db", "web"], count: 7 },
        { ...network, network: "back", names: ["cache"], count: 1 },
      ],
    },
    "-  h2  unreachable  out on app: db, web and 5 more; back: cache",
  ],
  [
    { kind: "problem", what: "kernel", ...network, message: "EPERM" },
    "app  kernel  problem  EPERM",
  ],
  [{ kind: "recovered", what: "guards" }, "-  guards  recovered"],
  [
    { kind: "guards-tampered", times: 1 },
    "-  guards  tampered  changed by somebody else, and put back",
  ],
])("%j", (happening, line) => {
  const when = "2026-11-21T12:00:00.123Z";
  expect(eventLine({ seq: 1, at: when, ...happening })).toBe(`${when}  ${line}`);
});
