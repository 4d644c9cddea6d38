import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { setImmediate } from "node:timers/promises";
import { NamespaceTable } from "../../agent/balancing/namespace-table.ts";
import { ScratchForms } from "../../agent/balancing/scratch-forms.ts";
import { clientTable } from "../../agent/core/balancing/client-table.ts";
import { namespaceAt } from "../../agent/kernel/netns.ts";
import { addressesOf, memberOf, service, VIP } from "../support/services.ts";
import { VirtualAddresses } from "../support/virtual-addresses.ts";
import { median, quantile, round } from "./statistics.ts";

/**
 * What virtual addresses cost, in namespaces of one machine and without a lab: `node test/bench/vip.ts` (Node 24, root, a C
 * compiler; a minute). In turn by the virtual address, to the member itself, and to it where there is no table.
 */

const ROUNDS = 9;
const TIMES = 50;
const CHANGES = 1000;
/** Each is two descriptors of this process, which keeps low ones for nftables. */
const HELD = 300;
const CLIENTS = 100;
const REFUSED = 200;

const net = new VirtualAddresses(3);
const { hosts } = net;
const program = join(hosts.directory, "connects");
execFileSync("cc", ["-O2", "-o", program, join(import.meta.dirname, "connects.c")]);

/** What a container has anyway: Docker's rules for its resolver. Conntrack is at work because of them. */
const DOCKER = `table ip nat {
  chain output { type nat hook output priority -100; ip daddr 127.0.0.11 udp dport 53 dnat to 127.0.0.11:40000; }
  chain postrouting { type nat hook postrouting priority 100; ip saddr 127.0.0.11 udp sport 40000 snat to :53; }
}`;
for (const k of [1, 2])
  execFileSync("nsenter", [`--net=${net.host(k)}`, "nft", "-f", "-"], { input: DOCKER });

function connects(address: string): [number, number] {
  const args = [net.client, address, net.host(2), addressesOf(2).ipv4, String(TIMES)];
  const text = execFileSync(program, args, { encoding: "utf8" });
  return text.trim().split(" ").map(Number) as [number, number];
}

async function cost(): Promise<void> {
  const found = new Map<string, [number, number][]>();
  for (let i = 0; i < ROUNDS; i++) {
    const add = (name: string, value: [number, number]): unknown =>
      found.set(name, [...(found.get(name) ?? []), value]);
    add("to the member, no table", connects(addressesOf(2).ipv4));
    net.serve();
    await net.put(service([memberOf(2)]));
    add("to the member", connects(addressesOf(2).ipv4));
    add("by the virtual address", connects(VIP));
    await net.balancing.withdraw("client");
  }
  const [[connect, trip]] = [of("to the member, no table")];
  for (const name of found.keys()) {
    const [us, tripUs] = of(name);
    console.log(
      `${name.padEnd(24)} connection ${round(us)} µs, rate ${round(connect / us)} of the first's, round trip ${round(tripUs)} µs (${round(tripUs - trip)} more)`,
    );
  }

  function of(name: string): [number, number] {
    const values = found.get(name)!;
    return [median(values.map(([a]) => a)), median(values.map(([, b]) => b))];
  }
}

/** The transaction by itself, in this thread. */
async function changes(): Promise<void> {
  const all = [2, 3, 4].map((k) => memberOf(k));
  const table = new NamespaceTable(net.client, namespaceAt(net.client)!);
  const forms = new ScratchForms();
  table.put(clientTable([service(all)], "client"), forms);
  const held = [];
  for (let i = 0; i < HELD; i++) held.push(await net.dial());
  const took: number[] = [];
  for (let i = 0; i < CHANGES; i++) {
    const members = all.map((one, k) => (k === i % 3 ? memberOf(k + 2, "draining") : one));
    const begunMs = performance.now();
    table.put(clientTable([service(members)], "client"), forms);
    took.push(performance.now() - begunMs);
    if (i % 20 === 0) await held[i % HELD]!.echo();
  }
  const ends = await Promise.allSettled(held.map((one) => one.echo()));
  const broken = ends.filter(({ status }) => status === "rejected").length;
  console.log(
    `${CHANGES} changes: ${round(median(took))} ms each, ${broken} of ${HELD} held connections broken`,
  );
  table.put(clientTable([service([memberOf(2, "draining")])], "client"), forms);
  const refusedMs: number[] = [];
  for (let i = 0; i < REFUSED; i++) {
    const begunMs = performance.now();
    const [error] = (await once(net.begin(), "error")) as [NodeJS.ErrnoException];
    if (error.code === "ECONNREFUSED") refusedMs.push(performance.now() - begunMs);
  }
  console.log(
    `nobody: ${refusedMs.length} of ${REFUSED} refused, ${round(median(refusedMs))} ms each, of this program's event loop the most`,
  );
  for (const { socket } of held) socket.destroy();
  table.remove();
}

/** From what is told to the main thread until the table of the first client, and of the last, is another. */
async function untilTable(): Promise<void> {
  const paths = Array.from({ length: CLIENTS }, (_, i) => hosts.netns(`client${i}`));
  for (const [i, path] of paths.entries()) net.serve(path, `client${i}`);
  net.balancing.services(service([]).network, [service([memberOf(2), memberOf(3)])]);
  const written = (): number => {
    const { tablesWritten, tablesChanged } = net.balancing.counters();
    return tablesWritten! + tablesChanged!;
  };
  const [firstMs, lastMs]: [number[], number[]] = [[], []];
  for (let i = 0; i < ROUNDS; i++) {
    await net.balancing.check();
    const before = written();
    const begunMs = performance.now();
    const ready = i % 2 === 0 ? [memberOf(2)] : [memberOf(2), memberOf(3)];
    net.balancing.services(service([]).network, [service(ready)]);
    while (written() === before) await setImmediate();
    firstMs.push(performance.now() - begunMs);
    while (written() < before + CLIENTS) await setImmediate();
    lastMs.push(performance.now() - begunMs);
  }
  console.log(
    `a stop until the table, of ${CLIENTS} clients: first ${round(median(firstMs))} ms, last ${round(median(lastMs))} ms (most ${round(quantile(lastMs, 1))})`,
  );
}

try {
  await net.listen();
  await cost();
  await changes();
  await untilTable();
} finally {
  await net.close();
}
