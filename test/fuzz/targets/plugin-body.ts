import { pluginCalls } from "../../../agent/docker/plugin/calls.ts";
import type { NetworkDriver } from "../../../agent/docker/plugin/port.ts";
import type { IpamDriver } from "../../../agent/networks/ipam-port.ts";
import { Cidr, Ip } from "../../../shared/ip.ts";
import { Mac } from "../../../shared/mac.ts";
import { goodBody, SILENT_CALLS, TELLING_CALLS } from "../../support/plugin-bodies.ts";
import { hold, refusalOf, type Target } from "../target.ts";

/** A call's name, a line feed, its body: read whole and right before a driver hears of it. */
export function pluginBody(): Promise<Target> {
  const heard = { calls: 0 };
  const calls = pluginCalls(network(heard), ipam(heard));
  const signal = new AbortController().signal;
  return Promise.resolve({
    decoder: "pluginCalls",
    recorded: [
      ...TELLING_CALLS.map((name) => `${name}\n${JSON.stringify(goodBody(name, "pool-1"))}`),
      ...SILENT_CALLS.map((name) => `${name}\n{}`),
    ].map((text) => new TextEncoder().encode(text)),
    form: "json",
    treeAt: (input) => input.indexOf(0x0a) + 1,
    feed: async (input) => {
      const text = new TextDecoder().decode(input);
      const end = text.indexOf("\n");
      const name = text.slice(0, end);
      const call = Object.hasOwn(calls, name) ? calls[name] : undefined;
      if (call === undefined) return "no such call";
      let body: unknown;
      try {
        body = JSON.parse(text.slice(end + 1));
      } catch {
        // As readJson of unix-http.ts, which `plugin-http` feeds.
        return "no JSON";
      }
      heard.calls = 0;
      let decoded = false;
      try {
        const answer = await call(body, { signal, decoded: () => (decoded = true) });
        hold(typeof answer === "object", "an answer that is no object");
        return undefined;
      } catch (error) {
        hold(decoded || heard.calls === 0, "a driver heard of a body that was not read whole");
        return refusalOf(error);
      }
    },
  });
}

interface Heard {
  calls: number;
}

function network(heard: Heard): NetworkDriver {
  const done = async (): Promise<void> => void heard.calls++;
  return {
    createNetwork: done,
    deleteNetwork: done,
    createEndpoint: async ({ mac }) => {
      heard.calls++;
      return { mac: mac ?? Mac.parse("02:42:0a:07:00:09") };
    },
    deleteEndpoint: done,
    join: async () => {
      heard.calls++;
      return { link: "vc1", prefix: "eth", internal: false, gateways: [] };
    },
    leave: done,
  };
}

function ipam(heard: Heard): IpamDriver {
  const done = async (): Promise<void> => void heard.calls++;
  const subnet = Cidr.parse("10.8.0.0/24");
  return {
    requestPool: async () => {
      heard.calls++;
      return { id: "pool-1", subnet };
    },
    releasePool: done,
    requestAddress: async () => {
      heard.calls++;
      return { ip: Ip.parse("10.8.0.2"), subnet };
    },
    releaseAddress: done,
  };
}
