import { decode } from "cborg";
import { recordings } from "../fixtures/recordings.ts";
import { type Target, type Targets } from "./target.ts";
import { gossip } from "./targets/gossip.ts";

/** Decoders with a bug each, of the kinds that inputs bring about: a run must find every one. */

async function keys(feed: Target["feed"], form?: "cbor" | "json"): Promise<Target> {
  const { keyRequest, membership } = await recordings();
  const recorded = Object.values(form === "json" ? membership : keyRequest);
  return { decoder: "planted", recorded, feed, ...(form === undefined ? {} : { form }) };
}

const lenient = <T>(read: () => T): T | undefined => {
  try {
    return read();
  } catch {
    return undefined;
  }
};

export const TARGETS: Targets = {
  /** A field that is missing is read all the same. */
  "throws-on-cbor": () =>
    keys((input) => {
      const message = lenient(() => decode(input) as { kind: string } | null);
      if (typeof message !== "object" || message === null) return "no message";
      return message.kind.slice(0, 3);
    }, "cbor"),
  "throws-on-json": () =>
    keys((input) => {
      const file = lenient(() => JSON.parse(new TextDecoder().decode(input)) as { claim: object });
      return file === undefined ? "no JSON" : Object.keys(file.claim).join();
    }, "json"),
  /** A length that is believed. */
  "throws-on-bytes": () =>
    keys((input) => {
      const length = input[0] ?? 0;
      if (length > 0xfe) throw new RangeError("offset is out of bounds");
      return undefined;
    }),
  /** A count that is not checked: as many times as it says, which is more than anybody waits. */
  hangs: () =>
    keys((input) => {
      const message = lenient(() => decode(input) as { n?: number });
      for (let left = message?.n ?? 0; left > 2 ** 31; left--) if (left === 2 ** 31) break;
      return undefined;
    }, "cbor"),
  /** Room is made for as many entries as are promised. */
  "takes-memory": () =>
    keys((input) => {
      const message = lenient(() => decode(input) as { n?: unknown });
      const kept: number[][] = [];
      for (let left = Number(message?.n ?? 0); left > 0; left -= 1_000_000)
        kept.push(Array.from<number>({ length: Math.min(left, 1_000_000) }).fill(0));
      return kept.length > 0 ? "kept" : undefined;
    }, "cbor"),
  /** A replica that takes every signature for good. */
  "changes-tables": () => gossip({ verify: () => true }),
};
