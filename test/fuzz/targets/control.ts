import { Controller } from "../../../controller/controller.ts";
import { decodeRecord, encodeRecord } from "../../../controller/encoded-record.ts";
import { MemoryStore } from "../../fakes/memory-controller-store.ts";
import { answerRequest } from "../../../controller/wire/answer.ts";
import { ControlClient, type News } from "../../../controller/wire/client.ts";
import { ControlAnswer } from "../../../controller/wire/messages.ts";
import { BOUNDS } from "../../../shared/bounds.ts";
import { decodeCbor, equalBytes } from "../../../shared/codec.ts";
import type { NodeId } from "../../../shared/ids.ts";
import { identityFromSeed } from "../../../shared/node/identity.ts";
import { sha256 } from "../../../shared/node/system.ts";
import { silentLog } from "../../../shared/ports.ts";
import { recordings } from "../../fixtures/recordings.ts";
import { seededRandom } from "../../support/seeded-random.ts";
import { storedRecord, storeRecord } from "../../support/stored-record.ts";
import { type SignedCluster, signedCluster } from "../../support/signed-cluster.ts";
import { saidSince } from "../since-0.1.0.ts";
import { hold, refusalOf, type Target } from "../target.ts";

const STRANGER = identityFromSeed(new Uint8Array(32).fill(42)).node;

/**
 * What strangers and members ask of the controller, `join` first. It is always answered in words; a refusal
 * changes nothing, and what is taken leaves a record that can be read again.
 */
export async function join(): Promise<Target> {
  const cluster = await signedCluster();
  const { controlRequest, controllerRecord } = await recordings();
  const since = await saidSince(cluster);
  const record = controllerRecord["record"]!;
  let { controller, store } = await controllerOf(cluster, record);
  return {
    decoder: "answerRequest",
    recorded: [...Object.values(controlRequest), ...since.controlRequest],
    form: "cbor",
    feed: async (input) => {
      const from: NodeId = input.length % 4 === 0 ? STRANGER : cluster.hosts[1].node;
      const raw = await answerRequest(controller, from, input);
      const answer = ControlAnswer.parse(decodeCbor(raw, BOUNDS.stateBytes * 2));
      const held = encodeRecord(await storedRecord(store));
      const same = equalBytes(held, record);
      if (!same) {
        ({ controller, store } = await controllerOf(cluster, record));
      }
      if (answer.kind !== "failed") return undefined;
      hold(same, "a refusal changed the controller's record");
      hold(answer.failure.code !== "INTERNAL", `not a refusal: ${answer.failure.message}`);
      return answer.failure.code;
    },
  };
}

async function controllerOf(
  { controller: peer, certificate, root }: SignedCluster,
  record: Uint8Array,
): Promise<{ controller: Controller; store: MemoryStore }> {
  const store = new MemoryStore();
  await storeRecord(store, decodeRecord(record));
  const keys = { controller: peer, certificate, rootKey: root.publicKey };
  const clock = { nowMs: () => 0, wallMs: () => 1_000_000 };
  const modules = { store, log: silentLog, clock, random: seededRandom(1), hasher: sha256 };
  return { controller: new Controller(keys, modules), store };
}

/** What answers at the controller's address. */
export async function controlAnswer(): Promise<Target> {
  let answer = new Uint8Array();
  const since = await saidSince(await signedCluster());
  const peer = STRANGER;
  const channel = {
    exchange: async () => ({ bytes: answer, peer }),
    watch: async (_: unknown, heard: (bytes: Uint8Array) => void) => heard(answer),
    close: async () => {},
  };
  const client = new ControlClient(channel, () => ({
    address: "198.51.100.1" as never,
    port: 1,
    peer,
  }));
  return {
    decoder: "ControlClient.request",
    recorded: [...Object.values((await recordings()).controlAnswer), ...since.controlAnswer],
    form: "cbor",
    feed: async (input) => {
      answer = Uint8Array.from(input);
      const news: News[] = [];
      try {
        await client.watch((one) => void news.push(one), new AbortController().signal);
        await client.request({ v: 1, kind: "state", revision: 0 }, "state");
        return undefined;
      } catch (error) {
        const { message } = error as Error;
        if (news.length > 0) return undefined;
        hold(/^[^\p{Cc}]{0,1100}$/u.test(message), "words that are not for a terminal");
        return refusalOf(error, { answered: true });
      }
    },
  };
}
