import { VNI_OPTION } from "../../agent/docker/views.ts";
import type { NetworkRecord } from "../../shared/cluster-state.ts";
import type { LabHost } from "../support/lab-host.ts";
import { post } from "../support/unix-post.ts";

/** Docker's own calls on an agent's plugin socket, of one network, without an engine. */
export class PluginCalls {
  readonly #host: LabHost;
  readonly #network = "9".repeat(64);
  #pool = "";
  readonly #addresses = new Map<string, string>();

  constructor(host: LabHost) {
    this.#host = host;
  }

  /** As an engine is told by the agent to show the cluster's network. */
  async show(name: string): Promise<void> {
    const { vni, subnets } = JSON.parse(
      await this.#host.overlay("network", "inspect", name),
    ) as NetworkRecord;
    const [{ subnet, gateway } = { subnet: "", gateway: "" }] = subnets;
    const pool = await this.#call<{ PoolID: string }>("IpamDriver.RequestPool", {
      AddressSpace: "overlay-ts",
      Pool: subnet,
    });
    this.#pool = pool.PoolID;
    const Gateway = `${gateway}/${subnet.split("/")[1]}`;
    await this.#call("NetworkDriver.CreateNetwork", {
      NetworkID: this.#network,
      Options: { "com.docker.network.generic": { [VNI_OPTION]: String(vni) } },
      IPv4Data: [{ AddressSpace: "overlay-ts", Pool: subnet, Gateway }],
      IPv6Data: [],
    });
  }

  /** A container starts, in the order of calls of a real engine; what was had is given back on failure. */
  async begin(endpoint: string): Promise<void> {
    const { Address } = await this.#call<{ Address: string }>("IpamDriver.RequestAddress", {
      PoolID: this.#pool,
    });
    this.#addresses.set(endpoint, Address.split("/")[0] ?? "");
    const ids = { NetworkID: this.#network, EndpointID: endpoint };
    try {
      await this.#call("NetworkDriver.CreateEndpoint", { ...ids, Interface: { Address } });
      await this.#call("NetworkDriver.Join", { ...ids, SandboxKey: "/run/none" });
    } catch (error) {
      await this.end(endpoint);
      throw error;
    }
  }

  async end(endpoint: string): Promise<void> {
    const ids = { NetworkID: this.#network, EndpointID: endpoint };
    await this.#call("NetworkDriver.Leave", ids);
    await this.#call("NetworkDriver.DeleteEndpoint", ids);
    const Address = this.#addresses.get(endpoint);
    await this.#call("IpamDriver.ReleaseAddress", { PoolID: this.#pool, Address });
    this.#addresses.delete(endpoint);
  }

  async #call<T>(name: string, body: object): Promise<T> {
    const socket = this.#host.path("/run/docker/plugins/overlay-ts.sock");
    const { text } = await post(socket, `/${name}`, body);
    const answer = JSON.parse(text) as T & { Err?: string };
    if (answer.Err !== undefined) throw new Error(`${name}: ${answer.Err}`);
    return answer;
  }
}
