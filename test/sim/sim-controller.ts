import type { ClusterGossip } from "../../agent/core/tables/cluster-messages.ts";
import { admitNode, type NodeFacts, revokeNode } from "../../controller/core/admission.ts";
import { allotBlock, grantAddress, returnBlock } from "../../controller/core/blocks.ts";
import {
  createNetwork,
  type NetworkRequest,
  removeNetwork,
  rotateKeys,
} from "../../controller/core/networks.ts";
import { Heads } from "../../controller/core/heads.ts";
import {
  admittedNode,
  type Context,
  type ControllerRecord,
  type Transition,
} from "../../controller/core/record.ts";
import { released } from "../../controller/core/quarantine.ts";
import { recovered } from "../../controller/core/recovery.ts";
import { addVip, removeVip } from "../../controller/core/vips.ts";
import { checkToken, issueToken, useToken } from "../../controller/core/tokens.ts";
import type { ControlRequest } from "../../controller/wire/messages.ts";
import { compareHeads, type StateHead } from "../../shared/state/head.ts";
import { RecentChanges } from "../../shared/state/recent-changes.ts";
import { encodeContent } from "../../shared/state/whole.ts";
import type {
  BlockRecord,
  ClusterState,
  NetworkRecord,
  SignedState,
  Takes,
} from "../../shared/cluster-state.ts";
import { OverlayError } from "../../shared/errors.ts";
import type { NodeId } from "../../shared/ids.ts";
import type { Random } from "../../shared/ports.ts";
import type { SimAgent } from "./sim-agent.ts";
import type { SimHost } from "./sim-host.ts";
import { oneShotSha256 } from "./stand-ins.ts";
import type { World } from "./world.ts";

/** Requests of hosts, as the real wire has them; `networkKey` is the mesh's concern. */
export type Request = Extract<
  ControlRequest,
  {
    kind:
      | "join"
      | "createNetwork"
      | "removeNetwork"
      | "allotBlock"
      | "grantAddress"
      | "returnBlock"
      | "addVip"
      | "removeVip"
      | "state";
  }
>;

export interface Answer {
  readonly state: SignedState;
  readonly revision: number;
  readonly network?: NetworkRecord;
  readonly block?: BlockRecord;
}

const TELL_MS = 5;
/** Ten minutes in the real one. */
const QUARANTINE_MS = 1000;
const RECOVER_MS = 500;
const DAY_MS = 86_400_000;

/**
 * The controller's core with a store of its own, on the first host. What it answers is signed and told
 * to the agent beside it; all others hear it by gossip.
 */
export class SimController {
  readonly #world: World;
  readonly #random: Random;
  #heads = new Heads(oneShotSha256);
  #recent = new RecentChanges<{ head: StateHead; change: Uint8Array }>(
    ({ change }) => change.length,
  );
  readonly #signedHeads = new WeakMap<StateHead, string>();
  #record: ControllerRecord;
  #before: ClusterState | undefined;
  #backup: ControllerRecord | undefined;
  #signed: { readonly of: ClusterState; readonly signed: SignedState } | undefined;
  #token: { id: string; secret: Uint8Array };
  /** States as long as large clusters' are. */
  readonly #paddingBytes: number;
  /** Against the time that everybody else has. */
  wallSkewMs = 0;
  isAway = false;
  /** Restored from an old backup, and has not asked the mesh yet. */
  #forgetful = false;
  #forgotten: ClusterState | undefined;
  /** The highest revision it ever told anybody, which a backup does not know. */
  #told = 0;

  constructor(world: World, record: ControllerRecord, random: Random, paddingBytes: number) {
    this.#world = world;
    this.#record = record;
    this.#random = random;
    this.#paddingBytes = paddingBytes;
    this.#token = this.#issue();
  }

  get record(): ControllerRecord {
    return this.#record;
  }

  /** What it decided last, even if it has forgotten that itself. */
  get decided(): ClusterState {
    return this.#forgotten ?? this.#record.state;
  }

  get host(): SimHost {
    return this.#world.hosts[0]!;
  }

  head(): StateHead {
    return this.#heads.of(this.#record.state).head;
  }

  /** Whole, as 0.1.0 takes it, unless the asker takes what changed, and knows of no host of 0.1.0. */
  signedState(takes?: Takes): SignedState {
    const { state } = this.#record;
    this.#told = Math.max(this.#told, state.revision);
    if (takes === undefined || takes.needWhole !== undefined) return this.#whole(state);
    const { head, objects } = this.#heads.of(state);
    const signed = { jws: this.#signedHead(head), controllerCertificate: "" };
    const { held } = takes;
    const isHeld = held !== undefined && compareHeads(held, head) === 0;
    const since = isHeld ? [] : this.#recent.since(held ?? {});
    if (since === undefined) return { ...signed, content: encodeContent(objects) };
    const changes = since.map(({ head, change }) => ({ jws: this.#signedHead(head), change }));
    return { ...signed, changes };
  }

  #whole(state: ClusterState): SignedState {
    if (this.#signed?.of !== state)
      this.#signed = { of: state, signed: this.#world.trust.sign(state, this.#paddingBytes) };
    return this.#signed.signed;
  }

  #signedHead(head: StateHead): string {
    const signed = this.#signedHeads.get(head) ?? this.#world.trust.signHead(head);
    this.#signedHeads.set(head, signed);
    return signed;
  }

  /** Each is kept from when it is the newest. */
  #goOn(): void {
    const { state } = this.#record;
    this.#world.trust.decided(state);
    const { head, change } = this.#heads.of(state);
    if (change !== undefined) this.#recent = this.#recent.and({ head, change });
  }

  /** Before there are hosts: all of them are members at once. */
  admitFirst(node: NodeId, facts: NodeFacts): void {
    const { record, result } = admitNode(this.#record, node, facts, undefined, this.#wallMs());
    this.#record = record;
    this.#world.monitor.hostAdmitted(result);
  }

  /** The same, for what is there before the run begins. */
  setUp(from: NodeId, request: Request): void {
    this.#handle(from, request);
  }

  /** The record, before the run begins. */
  setTo(record: ControllerRecord): void {
    this.#record = record;
  }

  /** Over a line that may be lost either way. @throws UNREACHABLE when no answer came in time, or its refusal */
  ask(from: SimHost, request: Request): Promise<Answer> {
    const { network, queue } = this.#world;
    const { disk } = from;
    return new Promise((resolve, reject) => {
      const silence = { code: "UNREACHABLE", message: "the controller does not answer" } as const;
      queue.after(2000, () => reject(new OverlayError(silence)));
      const answered = (reply: () => void): void => network.send(this.host, from, reply, true);
      const asked = (): void => {
        if (this.isAway || this.#forgetful || !this.host.powered) return;
        // Nobody puts in another disk as quickly as a message arrives.
        if (from.disk !== disk) return;
        try {
          const answer = this.#handle(from.node, request);
          answered(() => resolve(answer));
        } catch (error) {
          if (!(error instanceof OverlayError)) throw error;
          this.#world.trace(`controller refused ${request.kind} of h${from.k}: ${error.code}`);
          answered(() => reject(error));
        }
      };
      network.send(from, this.host, asked, true);
    });
  }

  joinRequest(facts: NodeFacts): Request {
    // As an admin does: one that was made by a clock that was ahead does not hold.
    if (!this.#holds()) this.#token = this.#issue();
    return { v: 1, kind: "join", ...this.#token, facts };
  }

  /** `node rm`: keys of all networks are made anew with it. */
  evict(node: NodeId): boolean {
    if (this.isAway || this.#forgetful) return false;
    this.#commit((record, context) => {
      const untilMs = context.wallMs + QUARANTINE_MS;
      const { record: without, result } = revokeNode(record, node, untilMs);
      const held = record.state.networks.map(({ id }) => id);
      return { record: rotateKeys(without, held, context), result };
    });
    return true;
  }

  keepBackup(): void {
    if (!this.#forgetful) this.#backup = this.#record;
  }

  /**
   * From the backup, if there is an older one. Serves again when it has met what it said last: that the
   * controller and all who heard its last word are lost at once is not among the faults.
   */
  restore(): boolean {
    const backup = this.#backup;
    if (backup === undefined || backup.state.revision >= this.#record.state.revision) return false;
    if (!this.#world.hosts.some(({ agent }) => this.#knowsAll(agent))) return false;
    this.#world.trace(`controller restored from revision ${backup.state.revision}`);
    this.#forgotten = this.decided;
    this.#record = backup;
    // It is another process: what it signs next starts from what it has found.
    this.#heads = new Heads(oneShotSha256);
    this.#recent = new RecentChanges(({ change }) => change.length);
    this.#goOn();
    this.#forgetful = true;
    // What it holds is told when its own host's agent begins to watch it.
    this.#tell();
    this.#world.queue.after(RECOVER_MS, () => this.#recover());
    return true;
  }

  /**
   * As one whose data were put back, or a second one, it has signed another state of its revision, and decides nothing before it
   * has met which of the two hosts have taken. Undefined: not now.
   */
  fork(): ClusterGossip | undefined {
    const [before, { state }, { trust }] = [this.#before, this.#record, this.#world];
    const [network, ...networks] = state.networks;
    if (this.#forgetful || network === undefined) return undefined;
    if (before === undefined || before.revision + 1 !== state.revision) return undefined;
    if (!this.#world.hosts.some(({ agent }) => this.#knowsAll(agent))) return undefined;
    const other = {
      ...state,
      networks: [{ ...network, keyEpoch: network.keyEpoch + 1 }, ...networks],
    };
    const heads = new Heads(oneShotSha256);
    heads.of(before);
    const { head, change } = heads.of(other);
    trust.decided(other);
    const { revision } = state;
    this.#world.trace(`controller forks at revision ${revision}`);
    this.#forgotten = this.decided;
    this.#forgetful = true;
    this.#world.queue.after(RECOVER_MS, () => this.#recover());
    const signed = { jws: this.#signedHead(head), change: change! };
    return { v: 1, kind: "change", revision, change: signed };
  }

  /** Of what it said last there is no other witness: with that one's disk it would be lost everywhere. */
  isKnownOnlyTo(host: SimHost): boolean {
    if (!this.#forgetful) return false;
    return !this.#world.hosts.some((other) => other !== host && this.#knowsAll(other.agent));
  }

  /** A skewed clock jumps. */
  jump(): void {
    this.wallSkewMs = this.#random.below(2 * DAY_MS) - DAY_MS;
  }

  tellAgain(): void {
    if (!this.isAway) this.#tell();
  }

  #recover(): void {
    const { faulty, hosts, network, queue, trust } = this.#world;
    if (!this.#forgetful) return;
    const held = hosts.map(({ agent }) => agent?.tables.state?.revision ?? 0);
    // All are there: what none of them knows was never heard.
    if (!faulty) this.#told = Math.max(...held);
    for (const host of hosts) {
      if (this.isAway || !this.#knowsAll(host.agent)) continue;
      if (!network.bothWays(this.host, host)) continue;
      this.#record = recovered(this.#record, trust.verify(host.agent!.replication.stateAfter(0)!), {
        wallMs: this.#wallMs(),
        random: this.#random,
      });
      this.#goOn();
      this.#world.monitor.vipsDecided(this.#record.state);
      this.#token = this.#issue();
      this.#forgetful = false;
      this.#forgotten = undefined;
      this.#world.trace(`controller recovered revision ${this.#record.state.revision}`);
      this.#tell();
      return;
    }
    queue.after(RECOVER_MS, () => this.#recover());
  }

  #knowsAll(agent: SimAgent | undefined): boolean {
    return (agent?.tables.state?.revision ?? 0) >= this.#told;
  }

  #handle(from: NodeId, request: Request): Answer {
    if (request.kind === "join") return this.#join(from, request);
    admittedNode(this.#record, from);
    switch (request.kind) {
      case "state":
        return this.#answer(request.takes);
      case "createNetwork": {
        const network = this.#commit((record, context) =>
          createNetwork(record, from, request.network satisfies NetworkRequest, context),
        );
        this.#world.monitor.networkMade(network);
        return { ...this.#answer(request.takes), network };
      }
      case "removeNetwork":
        this.#commit((record) => removeNetwork(record, from, request.network));
        return this.#answer(request.takes);
      case "allotBlock": {
        const block = this.#commit((record) =>
          allotBlock(record, from, request.network, request.family),
        );
        return { ...this.#answer(request.takes), block };
      }
      case "grantAddress": {
        const block = this.#commit((record) =>
          grantAddress(record, from, request.network, request.ip),
        );
        return { ...this.#answer(request.takes), block };
      }
      case "addVip":
        this.#commit((record) => addVip(record, from, request));
        return this.#answer(request.takes);
      case "removeVip":
        this.#commit((record, context) =>
          removeVip(record, from, request.network, request.name, context),
        );
        return this.#answer(request.takes);
      case "returnBlock":
        this.#commit((record) =>
          returnBlock(record, from, request.network, request.block, request.holds),
        );
        return this.#answer(request.takes);
    }
  }

  #join(from: NodeId, { id, secret, facts }: Extract<Request, { kind: "join" }>): Answer {
    const admitted = this.#commit((record, { wallMs }) => {
      const token = checkToken(record, { id, secret }, oneShotSha256, wallMs);
      const known = record.state.nodes.some((held) => held.id === from);
      const admitted = admitNode(record, from, facts, token.networks, wallMs);
      return known ? admitted : { ...admitted, record: useToken(admitted.record, token) };
    });
    this.#world.monitor.hostAdmitted(admitted);
    return this.#answer();
  }

  #answer(takes?: Takes): Answer {
    return { state: this.signedState(takes), revision: this.#record.state.revision };
  }

  #commit<T>(transition: (record: ControllerRecord, context: Context) => Transition<T>): T {
    const { state } = this.#record;
    const before = state.revision;
    const wallMs = this.#wallMs();
    const context = { wallMs, random: this.#random };
    const { record, result } = transition(released(this.#record, wallMs), context);
    this.#record = record;
    if (record.state.revision !== before) {
      this.#before = state;
      this.#goOn();
      this.#world.monitor.vipsDecided(record.state);
      this.#world.trace(`controller at revision ${record.state.revision}`);
      this.#tell();
    }
    return result;
  }

  /** To the agent on its own host, which watches it. */
  #tell(): void {
    this.signedState({});
    this.#world.queue.after(TELL_MS, () => void this.host.agent?.controllerNews());
  }

  #holds(): boolean {
    try {
      checkToken(this.#record, this.#token, oneShotSha256, this.#wallMs());
      return true;
    } catch {
      return false;
    }
  }

  #issue(): { id: string; secret: Uint8Array } {
    const request = { ttlMs: 365 * DAY_MS, uses: 1000 };
    const context = { wallMs: this.#wallMs(), random: this.#random };
    const { record, result } = issueToken(this.#record, request, oneShotSha256, context);
    this.#record = record;
    return { id: result.id, secret: result.secret };
  }

  #wallMs(): number {
    return Math.floor(1_800_000_000_000 + this.#world.queue.nowMs + this.wallSkewMs);
  }
}
