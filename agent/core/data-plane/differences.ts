import type { Ip } from "../../../shared/ip.ts";
import type {
  ActualNetwork,
  DesiredNetwork,
  DeviceShape,
  InterfaceAddress,
  RemoteEntry,
  Step,
  Wanted,
} from "./kernel-state.ts";
import { HeldNetwork } from "./held-network.ts";
import { plan } from "./plan.ts";
import { transitKey } from "./transit.ts";

/** Of a thousand entries that are missing these are named. */
const NAMED = 3;

/**
 * What is wrong in the kernel with a network, for who reads `verify`: each thing that a pass would do, said
 * as what it would do it for. Empty when a pass would do nothing. What is not pruned yet is wrong all the same.
 */
export function differences(actual: ActualNetwork, wanted: Wanted): string[] {
  if (wanted.kind !== "present")
    return plan(new HeldNetwork(actual), wanted).flatMap((step) => stepTexts(step, actual));
  const { desired } = wanted;
  if (!actual.present) return ["nothing of it is in the kernel"];
  const whole = { ...wanted, prune: true };
  const mends = plan(new HeldNetwork(actual), whole).some(({ kind }) => kind === "extend");
  // With devices as they should be, the plan is of what is missing beside them.
  const rest = plan(new HeldNetwork({ ...actual, device: desired, faults: [] }), whole);
  return [
    ...(mends ? deviceTexts(actual.device, desired) : []),
    ...actual.faults,
    ...rest.flatMap((step) => stepTexts(step, actual)),
  ];
}

function deviceTexts(device: DeviceShape | undefined, desired: DesiredNetwork): string[] {
  if (device === undefined) return ["its bridge or its VXLAN device is missing or down"];
  const shapes = [device, desired].map(shapeTexts);
  const [is = {}, should = {}] = shapes;
  return Object.keys(should).flatMap((what) =>
    is[what] === should[what] ? [] : [`its ${what} is ${is[what]} and should be ${should[what]}`],
  );
}

function shapeTexts(shape: DeviceShape): Record<string, string> {
  return {
    VNI: String(shape.vni),
    "UDP port": String(shape.udpPort),
    VTEP: shape.localVtep,
    MTU: String(shape.mtuBytes),
    gateway: addressTexts(shape.gateways),
    multicast: shape.multicast ? "on" : "off",
    "way out": transitKey(shape.transit),
  };
}

function addressTexts(addresses: readonly InterfaceAddress[]): string {
  const texts = addresses.map(({ ip, prefixLength }) => `${ip}/${prefixLength}`);
  return texts.toSorted().join(" ") || "missing";
}

function stepTexts(step: Step, actual: ActualNetwork): string[] {
  switch (step.kind) {
    case "extend":
      return [];
    case "retract":
      return ["its namespace is left over"];
    case "putRemotes":
      return remoteTexts(step.remotes, actual);
    case "removeFdb":
      return some(
        step.entries.map(({ mac, vtep }) => `${mac} at ${vtep}`),
        (which) => `the VXLAN device forwards to ${which}, where no container is`,
      );
    case "removeNeighbours":
      return some(step.ips, (which) => `the bridge answers for ${which}, which no container has`);
    case "putFlood":
      return some(step.vteps, (which) => `broadcasts are not copied to ${which}`);
    case "removeFlood":
      return some(step.vteps, (which) => `broadcasts are copied to ${which}, which is not on it`);
    case "putPort": {
      const { endpoint, ips } = step.port;
      const held = actual.ports.some((port) => port.endpoint === endpoint);
      const fault = held
        ? "has another MAC or address"
        : "is missing, down, not filtered or not as it was made";
      return [`the port of container ${ips[0] ?? endpoint} ${fault}`];
    }
    case "removePort":
      return [`there is a port ${step.link}, which no container here has`];
  }
}

/** A remote container is three records, each of which can be missing alone. */
function remoteTexts(remotes: readonly RemoteEntry[], actual: ActualNetwork): string[] {
  const vxlan = new Map(actual.vxlanFdb.map(({ mac, vtep }) => [mac, vtep]));
  const bridge = new Set(actual.bridgeFdb);
  const neighbours = new Map(actual.neighbours.map(({ ip, mac }) => [ip, mac]));
  const named = ({ mac, ips }: RemoteEntry): string => ips[0] ?? mac;
  const astray = remotes.filter(({ mac, vtep }) => vxlan.has(mac) && vxlan.get(mac) !== vtep);
  const unanswered = remotes.flatMap(({ mac, ips }): Ip[] =>
    ips.filter((ip) => neighbours.get(ip) !== mac),
  );
  return [
    ...some(
      remotes.filter(({ mac }) => !vxlan.has(mac)).map(named),
      (which) => `the VXLAN device has no entry for ${which}`,
    ),
    ...some(
      astray.map((remote) => `${named(remote)} at ${vxlan.get(remote.mac)}, not ${remote.vtep}`),
      (which) => `the VXLAN device has ${which}`,
    ),
    ...some(
      remotes.filter(({ mac }) => !bridge.has(mac)).map(named),
      (which) => `the bridge has no forwarding entry for ${which}`,
    ),
    ...some(unanswered, (which) => `the bridge has no neighbour entry for ${which}`),
  ];
}

/** One text for all of them; none when there are none. */
export function some(which: readonly string[], text: (which: string) => string): string[] {
  if (which.length === 0) return [];
  const rest = which.length - NAMED;
  return [text(which.slice(0, NAMED).join(", ") + (rest > 0 ? ` and ${rest} more` : ""))];
}
