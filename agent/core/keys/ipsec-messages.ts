import { z } from "zod";
import { encodeCbor } from "../../../shared/codec.ts";
import { Ip } from "../../../shared/ip.ts";
import { decodeMessage } from "../tables/messages.ts";
import { PAIR_KEY_BYTES } from "./pair-key.ts";

/** What two hosts say to each other about the keys of their pair. The longest is far below this. */
export const KEY_MESSAGE_BYTES = 1024;
export const SESSION_BYTES = 16;
/** Of one pair and direction, in the receiver's kernel; one that has so many gives no more keys. */
export const MAX_INBOUND = 16;

const v = z.literal(1);
const bytesOf = (length: number) =>
  z.custom<Uint8Array>(
    (value) => value instanceof Uint8Array && value.length === length,
    `not ${length} bytes`,
  );
const Session = bytesOf(SESSION_BYTES);
/**
 * VTEPs of the pair that it is about, of who asks first: a host that changes its address has two for a while, and who
 * has not heard yet means the other one. Hosts of 0.1.0 say and heed none.
 */
const Ends = z.tuple([Ip, Ip]).optional();
const Count = z.number().int().min(0);
/** 1-255 are reserved (RFC 4303, 2.1). */
const Spi = z.number().int().min(256).max(0xffff_ffff);

/**
 * `session`, in every message: random, of what its sender holds for this peer. Another one than before
 * means that the sender may have lost security associations: keys it gave should be asked for anew.
 */
export const KeyRequest = z.discriminatedUnion("kind", [
  /** A key to send to you with; the `n`-th time that I ask. */
  z.object({ v, kind: z.literal("ask"), session: Session, n: Count, ends: Ends }),
  /**
   * I have sent this while I waited for no key: of all you made until `made` of your session `of`, I
   * hold and shall ever hold none but these.
   */
  z.object({
    v,
    kind: z.literal("using"),
    session: Session,
    ends: Ends,
    of: Session,
    made: Count,
    spis: z.array(Spi).max(MAX_INBOUND),
  }),
]);
export type KeyRequest = z.infer<typeof KeyRequest>;

export const REFUSALS = ["not-wanted", "full", "kernel", "old"] as const;
export type Refusal = (typeof REFUSALS)[number];

/** `made`: how many the answerer has made for this peer in this session. */
export const KeyAnswer = z.discriminatedUnion("kind", [
  z.object({
    v,
    kind: z.literal("key"),
    session: Session,
    made: Count,
    /** Whose question it answers: no other takes it. */
    asked: z.object({ session: Session, n: Count }),
    spi: Spi,
    key: bytesOf(PAIR_KEY_BYTES),
  }),
  z.object({
    v,
    kind: z.literal("refused"),
    session: Session,
    made: Count,
    reason: z.enum(REFUSALS),
  }),
  z.object({ v, kind: z.literal("noted"), session: Session, made: Count }),
  /** `of` is another session than the one now. */
  z.object({ v, kind: z.literal("stale"), session: Session, made: Count }),
]);
export type KeyAnswer = z.infer<typeof KeyAnswer>;

export function encodeKeyMessage(message: KeyRequest | KeyAnswer): Uint8Array {
  return encodeCbor(message);
}

/** @throws INVALID or TOO_LARGE; nothing of what it was given is in the text. */
export function decodeKeyRequest(bytes: Uint8Array): KeyRequest {
  return decodeMessage(KeyRequest, bytes, KEY_MESSAGE_BYTES);
}

/** @throws OverlayError as decodeKeyRequest. */
export function decodeKeyAnswer(bytes: Uint8Array): KeyAnswer {
  return decodeMessage(KeyAnswer, bytes, KEY_MESSAGE_BYTES);
}
