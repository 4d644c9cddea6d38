import { expect, test } from "vitest";
import type { Found } from "../../../agent/core/liveness/reach.ts";
import { Reach } from "../../../agent/membership/reach.ts";
import { nodeId } from "../../support/cluster.ts";

const dead = nodeId(2);
const nobody = (): Found => ({ lost: new Set(), answering: new Set(), keyless: new Set() });

test("whoever asks hears of a change once, in the order of subscribing", () => {
  const reach = new Reach();
  const heard: string[] = [];
  reach.changed.on(() => heard.push(`first ${reach.lost().size}`));
  reach.changed.on(() => heard.push(`second ${reach.lostThrough("ipsec").size}`));
  const silent = { none: { ...nobody(), lost: new Set([dead]) } };
  const all = { none: nobody(), wireguard: nobody(), ipsec: nobody() };
  reach.found(all);
  expect(heard).toEqual([]);
  reach.found({ ...all, ...silent });
  reach.found({ ...all, ...silent });
  expect(heard).toEqual(["first 1", "second 1"]);
  reach.found(all);
  expect(heard.slice(2)).toEqual(["first 0", "second 0"]);
});
