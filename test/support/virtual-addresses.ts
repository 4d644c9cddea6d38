import type { Socket as UdpSocket } from "node:dgram";
import { once } from "node:events";
import type { Server, Socket } from "node:net";
import { join } from "node:path";
import { LinuxBalancing } from "../../agent/balancing/linux-balancing.ts";
import type { Service } from "../../agent/core/balancing/service.ts";
import { silentLog } from "../../shared/ports.ts";
import { TestHosts } from "./hosts.ts";
import { dialFrom, tcpIn, udpIn } from "./netns-sockets.ts";
import { addressesOf, NETWORK, VIP } from "./services.ts";

/** A client and members on one switch, and what is served to them: each member says who it is, and what it is told. */

export const PORT = 8080;

type Member = number;

/** Host 1 is the client, the others are members. */
export class VirtualAddresses {
  readonly hosts: TestHosts;
  readonly client: string;
  readonly members: readonly Member[];
  balancing: LinuxBalancing;
  readonly #servers: (Server | UdpSocket)[] = [];
  readonly #accepted = new Set<Socket>();
  readonly #dialled = new Set<Socket>();

  constructor(members: number) {
    this.hosts = new TestHosts(members + 1);
    this.client = this.host(1);
    this.members = Array.from({ length: members }, (_, i) => i + 2);
    this.balancing = this.#begin();
  }

  host(k: number): string {
    return join(this.hosts.directory, `h${k}`);
  }

  async listen(): Promise<void> {
    for (const k of this.members)
      for (const address of Object.values(addressesOf(k))) {
        const server = await tcpIn(this.host(k), address, PORT);
        server.on("connection", (socket) => {
          this.#accepted.add(socket);
          socket.on("close", () => this.#accepted.delete(socket)).on("error", () => {});
          socket.write(`${k}\n`);
          socket.on("data", (data) => socket.write(data));
        });
        const udp = await udpIn(this.host(k), address, PORT);
        udp.on("message", (_data, { port, address }) => udp.send(`${k}`, port, address));
        this.#servers.push(server, udp);
      }
  }

  /** Another agent, after the one that was. */
  async restart(): Promise<void> {
    await this.balancing.stop();
    this.balancing = this.#begin();
  }

  serve(path = this.client, id = "client"): void {
    this.balancing.serve({ id, path, networks: [NETWORK], name: id });
  }

  /** Resolves when the tables of clients are these. */
  async put(...services: readonly Service[]): Promise<void> {
    this.balancing.services(NETWORK, services);
    await this.balancing.check();
  }

  /** A connection, and who accepted it. Rejects with what it failed of. */
  async dial(address: string = VIP, from = this.client): Promise<Held> {
    const socket = this.begin(address, from);
    const [hello] = (await once(socket, "data")) as [Buffer];
    return new Held(socket, Number(hello.toString().trim()));
  }

  /** Not answered yet. */
  begin(address: string = VIP, from = this.client): Socket {
    const socket = dialFrom(from, address, PORT);
    this.#dialled.add(socket);
    // What nobody waits for any more may be reset.
    socket.on("error", () => {}).on("close", () => this.#dialled.delete(socket));
    return socket;
  }

  /** Who accepts so many connections, one after another. */
  async reached(count: number, address: string = VIP, from = this.client): Promise<Set<Member>> {
    const found = new Set<Member>();
    for (let i = 0; i < count; i++) {
      const held = await this.dial(address, from);
      found.add(held.member);
      held.socket.destroy();
    }
    return found;
  }

  async close(): Promise<void> {
    await this.balancing.stop();
    for (const socket of [...this.#accepted, ...this.#dialled]) socket.destroy();
    for (const server of this.#servers) server.close();
    this.hosts.close();
  }

  #begin(): LinuxBalancing {
    return new LinuxBalancing({ log: silentLog, checkMs: 50 });
  }
}

/** An established connection. */
export class Held {
  readonly socket: Socket;
  readonly member: Member;

  constructor(socket: Socket, member: Member) {
    this.socket = socket;
    this.member = member;
  }

  /** Rejects with what it ended of. */
  async echo(): Promise<void> {
    if (this.socket.destroyed) throw new Error("it ended");
    this.socket.write("x");
    await once(this.socket, "data");
  }
}

/** A client's UDP socket of one port, and who answers its datagrams. */
export class Datagrams {
  readonly #udp: UdpSocket;

  private constructor(udp: UdpSocket) {
    this.#udp = udp;
  }

  static async from(netns: string, any: "0.0.0.0" | "::"): Promise<Datagrams> {
    return new Datagrams(await udpIn(netns, any, 0));
  }

  async ask(address: string): Promise<Member> {
    this.#udp.send("x", PORT, address);
    const [answer] = (await once(this.#udp, "message")) as [Buffer];
    return Number(answer.toString());
  }

  send(address: string): void {
    this.#udp.send("x", PORT, address);
  }

  close(): void {
    this.#udp.close();
  }
}
