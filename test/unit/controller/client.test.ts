import { expect, test } from "vitest";
import type { ControlChannel } from "../../../controller/wire/channel.ts";
import { ControlClient } from "../../../controller/wire/client.ts";
import { encodeCbor } from "../../../shared/codec.ts";
import { Ip } from "../../../shared/ip.ts";
import type { PortAnswer } from "../../../shared/node/tcp-port.ts";
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

const TIMED_OUT = new DOMException("The operation was aborted", "TimeoutError");
const failed = (code: string): Error =>
  new Error("dial", { cause: Object.assign(new Error(code), { code, syscall: "connect" }) });

test.each<[string, Error, PortAnswer, string, RegExp, RegExp]>([
  [
    "takes connections",
    TIMED_OUT,
    { kind: "accepts" },
    "TIMEOUT",
    /7952\/tcp takes connections, and has not answered within 2 s: it or this host is busy$/,
    /uptime/,
  ],
  [
    "says nothing",
    TIMED_OUT,
    { kind: "silent" },
    "UNREACHABLE",
    /7952\/tcp does not answer: what is sent to the port is lost$/,
    /open 7952\/tcp/,
  ],
  [
    "cannot be asked",
    TIMED_OUT,
    { kind: "not-sent", why: "connect EPERM" },
    "UNREACHABLE",
    /does not answer: this host cannot send to it: connect EPERM$/,
    /nft list ruleset/,
  ],
  [
    "refuses",
    failed("ECONNREFUSED"),
    { kind: "accepts" },
    "UNREACHABLE",
    /does not answer: the connection is refused, nobody listens there$/,
    /systemctl status overlay-ts-controller/,
  ],
  [
    "is on no known way",
    failed("EHOSTUNREACH"),
    { kind: "accepts" },
    "UNREACHABLE",
    /does not answer: there is no route to its host$/,
    /ip route get 198\.51\.100\.1/,
  ],
  [
    "ends what was asked",
    new Error("the stream was reset"),
    { kind: "silent" },
    "UNREACHABLE",
    /does not answer: the stream was reset$/,
    /systemctl status overlay-ts-controller.* log/,
  ],
])("a controller whose port %s is said to be so", async (_what, error, said, code, what, next) => {
  const channel: ControlChannel = {
    exchange: () => Promise.reject(error),
    watch: () => Promise.reject(error),
    close: () => Promise.resolve(),
  };
  const client = new ControlClient(
    channel,
    () => address,
    2000,
    async () => said,
  );
  await expect(client.request({ v: 1, kind: "state", revision: 0 }, "state")).rejects.toMatchObject(
    { code, message: expect.stringMatching(what), next: expect.stringMatching(next) },
  );
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
