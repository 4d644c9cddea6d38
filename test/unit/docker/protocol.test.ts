import { describe, expect, test } from "vitest";
import * as protocol from "../../../agent/docker/plugin/protocol.ts";

/** Bodies as Docker 20.10.24 sent them. */
const NETWORK = "9ad4e269a17f701a230ebc9da637ea96a17c88c90ae42f2126a89c3c2075ce23";
const ENDPOINT = "f1b5ab65fd4cf1b5ab65fd4cf1b5ab65fd4cf1b5ab65fd4cf1b5ab65fd4cf1b5";

describe("Docker's calls", () => {
  test("CreateNetwork: options, pools and whose IPAM it is", () => {
    const body = {
      NetworkID: NETWORK,
      Options: {
        "com.docker.network.enable_ipv6": false,
        "com.docker.network.generic": { mtu: "1400" },
        "com.docker.network.internal": true,
      },
      IPv4Data: [
        {
          AddressSpace: "overlay-ts",
          Pool: "10.1.0.0/24",
          Gateway: "10.1.0.1/24",
          AuxAddresses: { router: "10.1.0.7/24" },
        },
      ],
      IPv6Data: [],
    };
    expect(protocol.readCreateNetwork(body)).toEqual({
      id: NETWORK,
      options: { mtu: "1400" },
      internal: true,
      pools: [
        {
          ipam: "overlay-ts",
          subnet: "10.1.0.0/24",
          gateway: "10.1.0.1",
          reserved: ["10.1.0.7"],
        },
      ],
    });
    const dual = {
      ...body,
      IPv6Data: [{ AddressSpace: "overlay-ts", Pool: "fd00:1::/64", Gateway: "fd00:1::1/64" }],
    };
    expect(protocol.readCreateNetwork(dual).pools.map(({ subnet }) => subnet)).toEqual([
      "10.1.0.0/24",
      "fd00:1::/64",
    ]);
    const docker = { ...body, IPv4Data: [{ AddressSpace: "LocalDefault", Pool: "10.1.0.5/24" }] };
    expect(protocol.readCreateNetwork(docker).pools).toEqual([
      { ipam: "docker", subnet: "10.1.0.0/24", gateway: undefined, reserved: [] },
    ]);
  });

  test("CreateEndpoint: addresses, and a MAC that Docker filled in or the user chose", () => {
    const ids = { NetworkID: NETWORK, EndpointID: ENDPOINT };
    const plain = {
      ...ids,
      Interface: { Address: "10.1.0.9/24", AddressIPv6: "", MacAddress: "" },
    };
    expect(protocol.readCreateEndpoint(plain)).toMatchObject({
      ipv4: "10.1.0.9",
      ipv6: undefined,
      mac: undefined,
      macGiven: false,
    });
    const short = { "com.docker.network.endpoint.macaddress": "Iso7UA==" };
    expect(() => protocol.readCreateEndpoint({ ...plain, Options: short })).toThrow(/22:ca:3b:50/);
    const chosen = { "com.docker.network.endpoint.macaddress": "qrvM3e7w" };
    expect(protocol.readCreateEndpoint({ ...plain, Options: chosen })).toMatchObject({
      mac: "aa:bb:cc:dd:ee:f0",
      macGiven: false,
    });
    const filled = { ...plain, Interface: { ...plain.Interface, MacAddress: "AA:BB:CC:DD:EE:F0" } };
    expect(protocol.readCreateEndpoint(filled)).toMatchObject({
      mac: "aa:bb:cc:dd:ee:f0",
      macGiven: true,
    });
  });

  test("--ipv4=false: refused by name, for a network is the same on every host", () => {
    const network = (ipv4: boolean) => () =>
      protocol.readCreateNetwork({
        NetworkID: NETWORK,
        Options: { "com.docker.network.enable_ipv4": ipv4, "com.docker.network.enable_ipv6": true },
        IPv4Data: [],
        IPv6Data: [{ AddressSpace: "overlay-ts", Pool: "fd00:9::/64", Gateway: "fd00:9::1/64" }],
      });
    expect(network(false)).toThrow(/has IPv4 on every host: engines before 28/);
    expect(network(true)).not.toThrow();
  });

  test("--aux-address outside of --ip-range: kept, where the engine says which one it is", () => {
    const network = (printer: string) =>
      protocol.readCreateNetwork({
        NetworkID: NETWORK,
        Options: {},
        IPv4Data: [
          { AddressSpace: "LocalDefault", Pool: "10.9.0.0/24", AuxAddresses: { printer } },
        ],
        IPv6Data: [],
      });
    expect(network("10.9.0.200/24").pools[0]?.reserved).toEqual(["10.9.0.200"]);
    expect(() => network("<nil>")).toThrow(
      /Docker before 28 does not say which address --aux-address printer is: it lies outside/,
    );
  });

  test("RequestAddress: for whom", () => {
    const gateway = { RequestAddressType: "com.docker.network.gateway" };
    expect(protocol.readRequestAddress({ PoolID: "p", Address: "", Options: gateway })).toEqual({
      pool: "p",
      ip: undefined,
      purpose: "gateway",
    });
    expect(
      protocol.readRequestAddress({ PoolID: "p", Address: "10.1.0.9", Options: null }),
    ).toEqual({
      pool: "p",
      ip: "10.1.0.9",
      purpose: "endpoint",
    });
  });

  test.each([
    protocol.readCreateNetwork,
    protocol.readCreateEndpoint,
    protocol.readNetwork,
    protocol.readEndpoint,
    protocol.readJoin,
    protocol.readPool,
    protocol.readRequestPool,
    protocol.readRequestAddress,
    protocol.readReleaseAddress,
  ])("%o refuses the empty body of a retried call", (read) => {
    expect(() => read({})).toThrow(/not understood/);
  });
});
