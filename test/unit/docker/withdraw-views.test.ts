import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { stillCutOff } from "../../../agent/docker/cut-off.ts";
import { dockerFailure } from "../../../agent/docker/engine/advice.ts";
import { EngineClient } from "../../../agent/docker/engine/client.ts";
import type { EngineContainer, EngineNetwork } from "../../../agent/docker/engine/port.ts";
import {
  type ViewsEngine,
  viewsInUse,
  withdrawViews,
} from "../../../agent/docker/withdraw-views.ts";
import { OverlayError } from "../../../shared/errors.ts";
import { DockerNetworkId, EndpointId } from "../../../shared/ids.ts";

const id = (name: string): DockerNetworkId =>
  DockerNetworkId.parse(name.replace("_", "").padEnd(64, "0"));

function network(name: string, driver: string): EngineNetwork {
  return {
    id: id(name),
    name,
    driver,
    internal: false,
    attachable: true,
    labels: driver === "bridge" ? { "overlay-ts.made": "" } : {},
    options: {},
    subnets: [],
    dockerRanges: [],
  };
}

function container(name: string, on: readonly string[]): EngineContainer {
  return {
    id: `id-of-${name}`,
    name,
    running: true,
    state: "up",
    health: undefined,
    networks: on.map((network) => ({ name: network, id: id(network), endpoint: undefined })),
  };
}

/** Docker refuses to remove a network that somebody is on, as the real one. */
function engineWith(containers: EngineContainer[]) {
  const networks = [network("app", "overlay-ts"), network("docker_gwbridge", "bridge")];
  const log: string[] = [];
  const on = (docker: DockerNetworkId) =>
    containers.filter(({ networks: held }) => held.some((one) => one.id === docker));
  const engine: ViewsEngine = {
    networks: async () => [...networks],
    containers: async () => containers,
    attachments: async (docker) => ({
      name: "",
      internal: false,
      endpoints: on(docker).map((one) => ({
        container: one.id,
        endpoint: EndpointId.parse("e".repeat(64)),
      })),
    }),
    disconnect: async (docker, { container: gone }) => {
      log.push(`disconnect ${gone}`);
      const at = containers.findIndex((one) => one.id === gone);
      const held = containers[at]!;
      const rest = held.networks.filter((one) => one.id !== docker);
      containers[at] = { ...held, networks: rest };
    },
    removeNetwork: async (docker) => {
      if (on(docker).length > 0)
        throw new OverlayError({ code: "CONFLICT", message: "it has active endpoints" });
      log.push(`remove ${docker.replace(/0+$/, "")}`);
      networks.splice(
        networks.findIndex((one) => one.id === docker),
        1,
      );
    },
  };
  return { engine, log };
}

test("who is on a view is cut off and named, then the view goes, and the way out", async () => {
  const { engine, log } = engineWith([container("c1", ["app"]), container("other", [])]);
  expect(await viewsInUse(engine)).toEqual(["app"]);
  const going: string[] = [];
  const done = await withdrawViews(engine, (view) => void going.push(view));
  expect(done).toEqual({
    cutOff: [{ network: "app", container: "id-of-c1", name: "c1" }],
    stays: [],
  });
  expect(going).toEqual([id("app")]);
  expect(log).toEqual(["disconnect id-of-c1", "remove app", "remove dockergwbridge"]);
  expect(await viewsInUse(engine)).toEqual([]);
});

test("who cannot ask does not say that nobody uses a view", async () => {
  const { engine } = engineWith([container("c1", ["app"])]);
  const refused = () =>
    Promise.reject(new OverlayError({ code: "DOCKER", message: "Docker refused: no" }));
  for (const deaf of [
    { ...engine, networks: refused },
    { ...engine, attachments: refused },
  ])
    await expect(viewsInUse(deaf)).rejects.toMatchObject({
      code: "DOCKER",
      message: expect.stringMatching(/cannot be asked: Docker refused: no/),
      next: expect.stringMatching(/journalctl -u docker.*--force/),
    });
});

test("a view that goes meanwhile is in nobody's use", async () => {
  const { engine } = engineWith([container("c1", ["app"])]);
  const gone = () => Promise.reject(new OverlayError({ code: "NOT_FOUND", message: "no" }));
  expect(await viewsInUse({ ...engine, attachments: gone })).toEqual([]);
});

test("nobody uses a view where there is no engine; a socket without one may have containers", async () => {
  const directory = mkdtempSync(join(tmpdir(), "ovt-views-"));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  const path = join(directory, "docker.sock");
  expect(await viewsInUse(new EngineClient(path))).toEqual([]);
  // A file that nobody listens on, as a dead engine's socket.
  writeFileSync(path, "");
  await expect(viewsInUse(new EngineClient(path))).rejects.toMatchObject({
    code: "UNREACHABLE",
    message: expect.stringMatching(/ECONNREFUSED/),
    next: expect.stringMatching(/^start it: `systemctl start docker`; or give --force/),
  });
});

test("what an engine that does not answer keeps is said, with what to do", async () => {
  const { engine } = engineWith([]);
  const silent = { ...engine, networks: () => Promise.reject(new Error("connect ENOENT")) };
  const { stays } = await withdrawViews(silent, () => {});
  expect(stays.join()).toMatch(/could not be asked \(connect ENOENT\).*docker network rm/);
});

test("a container is told of until it is connected again, or gone", () => {
  const cut = ["c1", "c2", "c3"].map((name) => {
    return { network: "app", container: `id-of-${name}`, name };
  });
  const now = [container("c1-renamed", []), container("c2", ["app"])];
  const containers = [{ ...now[0]!, id: "id-of-c1" }, now[1]!];
  expect(stillCutOff(cut, containers, [network("app", "overlay-ts")])).toEqual([
    { network: "app", container: "id-of-c1", name: "c1-renamed" },
  ]);
});

// As iptables 1.8.9 and 1.8.11 say it to Docker 20.10, 26.1 and 28.5, and iptables-legacy 1.8.9.
test.each([
  "Docker refused: Failed to Setup IP tables: Unable to enable SKIP DNAT rule:  (iptables failed: iptables --wait -t nat -I DOCKER -i docker_gwbridge -j RETURN: iptables: No chain/target/match by that name.\n (exit status 1))",
  "Docker refused: Failed to program FILTER chain: iptables failed: iptables --wait -I FORWARD -o docker_gwbridge -j DOCKER: iptables v1.8.11 (nf_tables): Chain 'DOCKER' does not exist\nTry `iptables -h' or 'iptables --help' for more information.\n (exit status 2)",
  "Docker refused: Failed to program FILTER chain: iptables failed: iptables --wait -I FORWARD -o docker_gwbridge -j DOCKER: iptables v1.8.9 (legacy): Couldn't load target `DOCKER':No such file or directory\n\nTry `iptables -h' or 'iptables --help' for more information.\n (exit status 2)",
  "Docker refused: iptables: Chain 'DOCKER-ISOLATION-STAGE-1' does not exist; does a matching rule exist in that chain?",
])("chains of Docker's that somebody flushed: restart it (%#)", (message) => {
  expect(dockerFailure([{ code: "DOCKER", message }])?.next).toMatch(/systemctl restart docker/);
});
