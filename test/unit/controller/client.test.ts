import { expect, test } from "vitest";
import type { ControlChannel } from "../../../controller/wire/channel.ts";
import { ControlClient } from "../../../controller/wire/client.ts";
import { encodeCbor } from "../../../shared/codec.ts";
import { Ip } from "../../../shared/ip.ts";
import { nodeId } from "../../support/cluster.ts";

const address = { address: Ip.parse("198.51.100.1"), port: 7952, peer: nodeId(1) };

/** As the mesh's worker has it: what comes is handed over from an event, where nobody catches. */
function watched(bytes: Uint8Array): { client: ControlClient; thrown: unknown[] } {
  const thrown: unknown[] = [];
  const channel: ControlChannel = {
    exchange: () => Promise.reject(new Error("not asked here")),
    watch: (_to, heard, signal) =>
      new Promise((_resolve, reject) => {
        signal.addEventListener("abort", () => reject(new Error("aborted")), { once: true });
        setImmediate(() => {
          try {
            heard(bytes);
          } catch (error) {
            thrown.push(error);
          }
        });
      }),
    close: () => Promise.resolve(),
  };
  return { client: new ControlClient(channel, () => address), thrown };
}

const failure = { code: "STALE", message: "its data are old", next: "recover" };

test.each([
  ["refused", encodeCbor({ v: 1, kind: "failed", failure }), /its data are old/],
  ["told nonsense", Uint8Array.of(0xff), /cannot read the controller/],
])("a watch that is %s ends with the reason", async (_what, bytes, why) => {
  const { client, thrown } = watched(bytes);
  await expect(client.watch(() => {}, new AbortController().signal)).rejects.toThrow(why);
  expect(thrown).toEqual([]);
});

test.each([
  ["silent", new DOMException("The operation was aborted", "TimeoutError"), / within 2 s$/],
  ["closed", new Error("dial", { cause: new Error("ECONNREFUSED") }), /: ECONNREFUSED$/],
])("a controller whose port is %s is said to be so", async (_what, error, words) => {
  const channel: ControlChannel = {
    exchange: () => Promise.reject(error),
    watch: () => Promise.reject(error),
    close: () => Promise.resolve(),
  };
  const client = new ControlClient(channel, () => address, 2000);
  const request = client.request({ v: 1, kind: "state", revision: 0 }, "state");
  await expect(request).rejects.toThrow(
    /^the controller at 198\.51\.100\.1:7952\/tcp does not answer/,
  );
  await expect(request).rejects.toThrow(words);
});

test.each([
  [7947, /7947\/tcp is not the controller: it is the mesh's port$/],
  [7000, /7000\/tcp is not the controller$/],
])("whoever speaks another language on port %i is not the controller", async (port, words) => {
  const error = new Error("dial", { cause: new Error("could not negotiate /noise") });
  const channel: ControlChannel = {
    exchange: () => Promise.reject(error),
    watch: () => Promise.reject(error),
    close: () => Promise.resolve(),
  };
  const client = new ControlClient(channel, () => ({ ...address, port }), 2000);
  await expect(client.request({ v: 1, kind: "state", revision: 0 }, "state")).rejects.toMatchObject(
    {
      code: "UNREACHABLE",
      message: expect.stringMatching(words),
      next: expect.stringMatching(/the controller's, 7952/),
    },
  );
});
