import type { Plant } from "./plant.ts";
import { AGENT_PLANTS } from "./plants-of-rooms.ts";

const reading = "agent/core/data-plane/read-network.ts";
const disputes = "agent/core/data-plane/disputes.ts";
const claims = "agent/core/data-plane/claims.ts";
const heldNetwork = "agent/core/data-plane/held-network.ts";
const tables = "agent/core/tables/tables.ts";
const replica = "agent/core/tables/replica.ts";
const clusterReplica = "agent/core/tables/cluster-replica.ts";
const hostDigests = "agent/core/tables/host-digests.ts";
const names = "agent/core/names/names.ts";
const nameTable = "agent/core/names/name-table.ts";
const plan = "agent/core/data-plane/plan.ts";
const ownDocuments = "agent/core/tables/own-documents.ts";
const addresses = "agent/core/ipam.ts";
const presence = "agent/core/liveness/failure-detector.ts";
const wanted = "agent/core/data-plane/prune-gate.ts";
const heldState = "shared/state/held-state.ts";
const stateReplica = "agent/core/tables/state-replica.ts";
const catchUp = "shared/state/catch-up.ts";
const objectTree = "shared/state/object-tree.ts";

const CORE_PLANTS: readonly Plant[] = [
  {
    name: "block-check-skipped",
    what: "an address counts wherever it is claimed, whoever has the block",
    edits: [
      {
        file: claims,
        from: 'claimed.every((ip) => blocks.around(ip)?.node === node) ? undefined : "not-in-block"',
        to: "undefined",
      },
    ],
  },
  {
    name: "mac-of-whoever-claims",
    what: "a MAC that an address derives goes to who claims it with another one",
    edits: [
      {
        file: disputes,
        from: "of [derived, chosen].flat()",
        to: "of [chosen, derived].flat()",
      },
    ],
  },
  {
    name: "past-taken-for-a-clone",
    what: "what a host said in a boot before is taken for the word of another machine",
    edits: [{ file: clusterReplica, from: " && met.overtook === this.#bootId;", to: ";" }],
  },
  {
    name: "mac-claimed-twice",
    what: "a MAC counts for each who claims it",
    edits: [
      {
        file: disputes,
        from: "if (macs.has(mac)) lose",
        to: "if (mac === undefined) lose",
      },
    ],
  },
  {
    name: "gateway-claim-believed",
    what: "a member can claim the gateway's address, if it lies in its block",
    edits: [
      {
        file: claims,
        from: 'if (claimed.some((ip) => subnets.some(({ gateway }) => gateway === ip))) return "gateway";',
        to: "",
      },
      {
        file: claims,
        from: "return subnets.map(({ gateway }) => ruleMac(gateway));",
        to: "return subnets.slice(0, 0).map(({ gateway }) => ruleMac(gateway));",
      },
    ],
  },
  {
    name: "gateway-address-given",
    what: "the gateway's address is given to a container",
    edits: [
      {
        file: addresses,
        from: "return value === ipToNumber(gateway) ||",
        to: "return",
      },
      { file: addresses, from: 'if (ip === gateway) return "is the gateway\'s";', to: "" },
    ],
  },
  {
    name: "left-network-believed",
    what: "documents of a host that has left the network go on counting",
    edits: [
      {
        file: reading,
        from: 'if (saysOn(hosts, node, id) === false) return "not-hosting";',
        to: "",
      },
    ],
  },
  {
    name: "evicted-node-trusted",
    what: "`node rm` writes the host down, and nobody looks",
    edits: [
      {
        file: "controller/core/admission.ts",
        from: `    nodes: state.nodes.filter(({ id }) => id !== node.id),
    revoked: [...state.revoked, node.id],
    blocks: state.blocks.filter((block) => block.node !== node.id),`,
        to: "    revoked: [...state.revoked, node.id],",
      },
      {
        file: "agent/core/tables/admitted.ts",
        from: "return nodes.filter(({ id }) => !out.has(id));",
        to: "return nodes.filter(({ id }) => id !== undefined || out.has(id));",
      },
      {
        file: "shared/allowed.ts",
        from: "if (isRevoked(state, node)) return false;",
        to: "",
      },
    ],
  },
  {
    name: "older-document-accepted",
    what: "a document whole replaces a newer one",
    edits: [
      {
        file: tables,
        from: `    const held = this.#networks.get(document.network)?.get(document.node);
    if (!supersedes(document, held)) return false;`,
        to: "",
      },
    ],
  },
  {
    name: "older-host-word-accepted",
    what: "what a host said of itself before replaces what it says now",
    edits: [
      {
        file: tables,
        from: "if (!supersedes(document, this.#hosts.get(document.node))) return false;",
        to: "",
      },
      {
        file: hostDigests,
        from: "return isNews(seen, held, (document) => this.entry(document).hash);",
        to: "return seen.version.seq !== held?.version.seq || isNews(seen, held, (document) => this.entry(document).hash);",
      },
    ],
  },
  {
    name: "revision-rollback-accepted",
    what: "a state of a lower revision replaces a newer one",
    edits: [
      {
        file: tables,
        from: "return this.#state === undefined || revision > this.#state.revision;",
        to: "return this.#state === undefined || revision > 0;",
      },
    ],
  },
  {
    name: "fork-won-by-the-last",
    what: "of two states of one revision a host takes the one that it hears last",
    edits: [
      {
        file: stateReplica,
        from: "compareHeads({ revision, root }, held) > 0;",
        to: "compareHeads({ revision, root }, held) !== 0;",
      },
      {
        file: stateReplica,
        from: 'root !== undefined && (this.point()?.root ?? "") > root;',
        to: 'root !== undefined && (this.point()?.root ?? "") !== root;',
      },
    ],
  },
  {
    name: "bucket-not-compared",
    what: "objects that a peer tells are not held against the hashes of the head",
    edits: [
      {
        file: catchUp,
        from: "if (!equalBytes(bucketHash(objects, this.#hasher), hash)) return false;",
        to: "",
      },
      {
        file: catchUp,
        from: "return heldState(this.#head, this.#from.withBuckets(new Map(buckets)));",
        to: "return { head: this.#head, objects: this.#from.withBuckets(new Map(buckets)) };",
      },
    ],
  },
  {
    name: "old-buckets-under-a-new-head",
    what: "who catches up goes on to a newer head with the hashes of the one before",
    edits: [
      { file: catchUp, from: "    this.#hashes = undefined;\n", to: "" },
      {
        file: catchUp,
        from: "return heldState(this.#head, this.#from.withBuckets(new Map(buckets)));",
        to: "return { head: this.#head, objects: this.#from.withBuckets(new Map(buckets)) };",
      },
    ],
  },
  {
    name: "change-on-the-wrong-base",
    what: "a change of the state is put on whatever is held, and the root not compared",
    edits: [
      {
        file: heldState,
        from: "if (head.base === undefined || compareHeads(head.base, held.head) !== 0) return",
        to: "if (head.base === undefined) return",
      },
      {
        file: heldState,
        from: 'if (rootText(objects) !== head.root) return { kind: "refused", why: "root" };',
        to: "",
      },
    ],
  },
  {
    name: "old-object-under-a-new-head",
    what: "what came beside a signed head is not held against it",
    edits: [
      {
        file: heldState,
        from: 'if (head.changes !== changesHash(bytes, hasher)) return { kind: "refused", why: "changes" };',
        to: "",
      },
      {
        file: heldState,
        from: 'if (rootText(objects) !== head.root) return { kind: "refused", why: "root" };',
        to: "",
      },
    ],
  },
  {
    name: "bucket-hash-kept",
    what: "a bucket that holds something keeps its hash when an object of it is another",
    edits: [
      {
        file: objectTree,
        from: "      hashes.set(bucketHash(objects",
        to: "      if (this.bucket(index).size === 0) hashes.set(bucketHash(objects",
      },
    ],
  },
  {
    name: "dropped-key-resurrected",
    what: "what a change drops stays where it was",
    edits: [{ file: objectTree, from: "for (const key of drop) bucket(key).delete(key);", to: "" }],
  },
  {
    name: "hash-not-compared",
    what: "a change is merged although the result is not what its owner signed",
    edits: [
      {
        file: tables,
        from: 'if (!equalBytes(endpointsHash(hasher, endpoints), delta.hash)) return "gap";',
        to: "",
      },
    ],
  },
  {
    name: "delta-without-base",
    what: "a change is put on whatever is held, and the result not compared",
    edits: [
      { file: tables, from: 'if (!first && !next) return "gap";', to: "" },
      {
        file: tables,
        from: 'if (!equalBytes(endpointsHash(hasher, endpoints), delta.hash)) return "gap";',
        to: "",
      },
    ],
  },
  {
    name: "lost-change-never-repaired",
    what: "gossip alone: nobody compares what he holds with a peer after the first time",
    edits: [
      {
        file: replica,
        from: "if (to === undefined) continue;",
        to: "if (to === undefined || topic.inSync) continue;",
      },
    ],
  },
  {
    name: "gap-not-fetched",
    what: "a change that does not fit is dropped, and comparisons fetch nothing either",
    edits: [
      {
        file: replica,
        from: "if (nodes.length === 0) return ask.round ? this.#synced(ask.network) : [];",
        to: "return ask.round ? this.#synced(ask.network) : [];",
      },
    ],
  },
  {
    name: "delete-before-in-sync",
    what: "what the tables do not know is deleted from the kernel at once",
    edits: [{ file: plan, from: "if (prune) {", to: "if (prune || !prune) {" }],
  },
  {
    name: "alone-without-asking",
    what: "a host that has not heard of others yet takes itself for alone",
    edits: [
      {
        file: wanted,
        from: "wasAsked(tables, self, heard) && (!othersOn(",
        to: "(!othersOn(",
      },
    ],
  },
  {
    name: "one-way-partition-ignored",
    what: "a request that went out counts as a comparison, whether an answer came or not",
    edits: [
      {
        file: replica,
        from: "this.counters.timeouts += this.#questions.expire(nowMs);",
        to: `const expired = this.#questions.expire(nowMs);
    this.counters.timeouts += expired;
    if (expired > 0) for (const network of this.#topics.keys()) this.#synced(network);`,
      },
    ],
  },
  {
    name: "forgotten-on-suspicion",
    what: "the documents of a host that does not answer are dropped",
    edits: [
      {
        file: names,
        from: "isLost: lost.has(node),",
        to: "isLost: lost.has(node) && tables.drop(record.id, node),",
      },
      {
        file: tables,
        from: "  mergeHost(document: HostDocument): boolean {",
        to: `  drop(network: NetworkId, node: NodeId): boolean {
    return this.#networks.get(network)?.delete(node) === true;
  }

  mergeHost(document: HostDocument): boolean {`,
      },
    ],
  },
  {
    name: "suspended-kept-in-names",
    what: "containers of a host that does not answer stay in answers",
    edits: [
      {
        file: names,
        from: "isLost: lost.has(node),",
        to: "isLost: false,",
      },
    ],
  },
  {
    name: "silence-not-noticed",
    what: "a host is never lost, however long its kernel is silent",
    edits: [
      {
        file: presence,
        from: "peer.lost = peer.misses >= this.#options.missesToLose;",
        to: "peer.lost = false;",
      },
    ],
  },
  {
    name: "lost-for-ever",
    what: "a host that answers again stays lost",
    edits: [
      {
        file: presence,
        from: "peer.lost = peer.misses >= this.#options.missesToLose;",
        to: "peer.lost ||= peer.misses >= this.#options.missesToLose;",
      },
    ],
  },
  {
    name: "unhealthy-answered",
    what: "members whose health check fails are in answers",
    edits: [
      {
        file: nameTable,
        from: "if (holder.out !== undefined && holder.endpoint !== own) continue;",
        to: "",
      },
    ],
  },
  {
    name: "name-out-of-scope",
    what: "a name is answered whatever network the asking container is on",
    edits: [
      {
        file: nameTable,
        from: "const places = scope.map((attached) => ({",
        to: `const places = [...this.#networks.keys()]
          .map((network) => ({ ...scope[0]!, network }))
          .map((attached) => ({`,
      },
    ],
  },
  {
    name: "name-not-taken-back",
    what: "the name of a container that has gone goes on being answered",
    edits: [
      {
        file: nameTable,
        from: "for (const endpoint of remove) drop(names, endpoint);",
        to: "",
      },
    ],
  },
  {
    name: "own-document-not-overtaken",
    what: "an owner that meets a newer document of its own leaves it at that",
    edits: [
      {
        file: ownDocuments,
        from: "if (!isNews({ version: met.version, hash: hashOf(met) }, held, hashOf)) return undefined;",
        to: "if (held?.version.seq !== met.version.seq || !isNews({ version: met.version, hash: hashOf(met) }, held, hashOf)) return undefined;",
      },
    ],
  },
  {
    name: "own-word-not-overtaken",
    what: "a host that meets a newer word of its own leaves it at that",
    edits: [
      {
        file: clusterReplica,
        from: "if (document.node === this.#options.node) return this.#metOwn(document, nowMs);",
        to: "if (document.node === this.#options.node) return [];",
      },
    ],
  },
  {
    name: "signature-not-checked",
    what: "whoever can reach the mesh can speak for any host",
    edits: [
      {
        file: replica,
        from: 'if (!deltaHolds(delta, this.#modules.verifier)) return this.#count("badSignature");',
        to: "",
      },
    ],
  },
  {
    name: "strangers-kept",
    what: "documents of hosts that nobody admitted are kept",
    edits: [
      {
        file: replica,
        from: 'if (!this.tables.isMember(delta.node)) return this.#count("notMembers");',
        to: "",
      },
    ],
  },
  {
    name: "strangers-word-kept",
    what: "what hosts say of themselves that nobody admitted is kept",
    edits: [
      {
        file: clusterReplica,
        from: "if (!this.#tables.isMember(document.node)) {",
        to: "if (document.node === this.#options.node) {",
      },
    ],
  },
  {
    name: "neighbour-not-removed",
    what: "neighbours of containers that have gone stay in the kernel",
    edits: [
      {
        file: plan,
        from: 'if (staleIps.length > 0) steps.push({ kind: "removeNeighbours", ips: staleIps });',
        to: "",
      },
    ],
  },
  {
    name: "remotes-dropped",
    what: "of several new remote containers one is written in a pass",
    edits: [
      {
        file: plan,
        from: 'steps.push({ kind: "putRemotes", remotes: missing });',
        to: 'steps.push({ kind: "putRemotes", remotes: missing.slice(0, 1) });',
      },
    ],
  },
  {
    name: "moved-container-not-followed",
    what: "an FDB entry that points at another host counts as there",
    edits: [
      {
        file: heldNetwork,
        from: "this.vxlanFdb.get(mac) === vtep &&",
        to: "this.vxlanFdb.has(mac) &&",
      },
    ],
  },
  {
    name: "address-given-again-at-once",
    what: "the lowest free address, so that one just freed is the next to be given",
    edits: [
      {
        file: addresses,
        from: "const after = last === undefined ? -1n : ipToNumber(last);",
        to: "const after = last === undefined ? -1n : -1n;",
      },
    ],
  },
  {
    name: "block-given-twice",
    what: "the controller does not see the block that it gave last",
    edits: [
      {
        file: "controller/core/blocks.ts",
        from: "const taken = [...blocks.map(",
        to: "const taken = [...blocks.slice(0, -1).map(",
      },
    ],
  },
  {
    name: "claims-kept-too-long",
    what: "whether an endpoint lies in its host's block is not asked again when the blocks are others",
    edits: [
      {
        file: claims,
        from: "const isSameGround = before?.blocks === blocks;",
        to: "const isSameGround = before !== undefined;",
      },
    ],
  },
  {
    name: "dispute-not-seen",
    what: "what two hosts claim is taken for claimed once",
    edits: [
      {
        file: "agent/core/data-plane/claim-counts.ts",
        from: "if (all.length === 2) this.#disputed.add(key);",
        to: "if (all.length === 3) this.#disputed.add(key);",
      },
    ],
  },
  {
    name: "agreed-without-pruning",
    what: "where nothing was to go, what is there is taken for what was wanted and no more",
    edits: [
      {
        file: heldNetwork,
        from: "wanted.prune ? { ports, remotes } : { ports };",
        to: "{ ports, remotes };",
      },
    ],
  },
  {
    name: "change-taken-for-none",
    what: "containers that came or went are no reason for a pass",
    edits: [
      {
        file: "agent/core/data-plane/same-wanted.ts",
        from: "return remotes.before.length + remotes.after.length === 0;",
        to: "return remotes.before.length + remotes.after.length >= 0;",
      },
    ],
  },
  {
    name: "numbers-of-the-backup",
    what: "a restored controller goes on with the numbers of its backup, whatever hosts say is spent",
    edits: [
      {
        file: "controller/core/recovery.ts",
        from: "[next.vni + UNHEARD, next.nodeIndex + UNHEARD]",
        to: "[record.nextVni, record.nextNodeIndex]",
      },
    ],
  },
  {
    name: "reading-kept-too-long",
    what: "what hosts say of themselves is not asked again of documents that are the same",
    edits: [
      {
        file: reading,
        from: "    a.networks === b.networks &&\n    a.hosts === b.hosts",
        to: "    a.networks === b.networks",
      },
    ],
  },
];

/** Bugs that the simulation must find: it is only as good as the worst of them that it misses. */
export const PLANTS: readonly Plant[] = [...CORE_PLANTS, ...AGENT_PLANTS];
