import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PluginServer } from "../../../agent/docker/plugin/server.ts";
import type { NetworkDriver } from "../../../agent/docker/plugin/port.ts";
import type { IpamDriver } from "../../../agent/networks/ipam-port.ts";
import { OverlayError } from "../../../shared/errors.ts";
import { silentLog } from "../../../shared/ports.ts";
import { goodBody, TELLING_CALLS } from "../../support/plugin-bodies.ts";
import { sendRaw } from "../../support/plugin-client.ts";
import { hold, type Target } from "../target.ts";

/** Bytes on the plugin's socket: each connection is answered in HTTP, counted, and ends. */
export async function pluginHttp(): Promise<Target> {
  const directory = mkdtempSync(join(tmpdir(), "ovt-fuzz-"));
  const socket = join(directory, "plugin.sock");
  const refuse = (): Promise<never> =>
    Promise.reject(new OverlayError({ code: "NOT_FOUND", message: "no such", next: "none" }));
  const every = { get: () => refuse };
  const server = new PluginServer(socket, {
    network: new Proxy({}, every) as NetworkDriver,
    ipam: new Proxy({}, every) as IpamDriver,
    log: silentLog,
  });
  await server.start();
  return {
    decoder: "PluginServer",
    recorded: [
      ...TELLING_CALLS.map((name) => request(name, JSON.stringify(goodBody(name, "pool-1")))),
      request("Plugin.Activate", ""),
      request("IpamDriver.GetCapabilities", "{}"),
    ],
    feed: async (input) => {
      const answer = await sendRaw(socket, Buffer.from(input));
      hold(answer === "" || answer.startsWith("HTTP/1.1 "), "an answer that is no HTTP");
      const status = answer.slice(9, 12);
      return status === "200" ? undefined : status === "" ? "no request" : status;
    },
    close: async () => {
      await server.stop();
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

function request(name: string, body: string): Buffer {
  const head = [
    `POST /${name} HTTP/1.1`,
    "Host: plugin.moby.localhost",
    "User-Agent: Go-http-client/1.1",
    `Content-Length: ${Buffer.byteLength(body)}`,
    "Accept: application/vnd.docker.plugins.v1.2+json",
  ];
  return Buffer.from(`${head.join("\r\n")}\r\n\r\n${body}`);
}
