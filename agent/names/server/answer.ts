import dnsPacket from "dns-packet";
import { canonicalName } from "../../../shared/dns-name.ts";
import type { Ip } from "../../../shared/ip.ts";
import type { NameTable, Scope } from "../../core/names/name-table.ts";
import type { ServiceRecord } from "../../core/names/service-names.ts";
import { reverseName } from "./reverse-name.ts";

/** Whoever asked keeps an answer this long: what a change of holders may cost. */
export const TTL_S = 2;
/** What we take and give over UDP at most (RFC 6891, 6.2.5). */
export const UDP_BYTES = 4096;
/** Without EDNS (RFC 1035, 4.2.1). */
const PLAIN_UDP_BYTES = 512;
const TCP_BYTES = 65535;

const HEADER_BYTES = 12;
const QR = 0x8000;
const OPCODE_MASK = 0x7800;
/** Of a query's flags the answer repeats RD and CD. */
const REPEATED = dnsPacket.RECURSION_DESIRED | dnsPacket.CHECKING_DISABLED;
const NXDOMAIN = 3;
const REFUSED = 5;
/** RFC 6891, 6.1.3: BADVERS is 16, its upper eight bits in the OPT record. */
const BADVERS_UPPER = 1;
/** Priority, weight and port. */
const SRV_BYTES = 6;
/** An OPT and a signature. */
const MOST_ADDITIONALS = 2;

export type Transport = "udp" | "tcp";

/**
 * `unknown`: a name that no network of the scope has, and one may have in a moment. `forward`:
 * nothing for us to say.
 */
export type Reply = { readonly bytes: Buffer; readonly records: number } | "unknown" | "forward";

interface Opt {
  readonly type: "OPT";
  readonly name: ".";
  readonly udpPayloadSize: number;
  readonly extendedRcode: number;
  readonly ednsVersion: number;
  readonly flags: number;
}

interface Question {
  readonly id: number;
  readonly flags: number;
  /** As it was asked. */
  readonly name: string;
  readonly type: string;
  readonly opt: Opt | undefined;
}

type Data =
  | { readonly type: "A" | "AAAA"; readonly data: readonly Ip[] }
  | { readonly type: "PTR"; readonly data: readonly string[] }
  | { readonly type: "SRV"; readonly data: readonly ServiceRecord[] };

/**
 * What is said to one query (RFC 1035, 4.1): of the names that `scope` sees and nothing else.
 *
 * @param patient it can wait: else it is never `unknown`.
 */
export function reply(
  query: Buffer,
  names: NameTable,
  scope: Scope,
  transport: Transport,
  patient = true,
): Reply {
  const question = parse(query);
  if (question === undefined) return "forward";
  const found = look(question, names, scope, patient);
  if (found === undefined) return "forward";
  if (found === "unknown") return found;
  if (question.opt !== undefined && question.opt.ednsVersion !== 0)
    return echoing(query, question, encode(question, [], { badVersion: true }), 0);
  const fitting = fit(question, found, transport);
  const bytes = encode(question, fitting, { truncated: fitting.length < found.data.length });
  return echoing(query, question, bytes, fitting.length);
}

/** `NXDOMAIN` for a query; undefined: it is none that we understand. */
export function refusal(query: Buffer): Buffer | undefined {
  const question = parse(query);
  return question && encode(question, [], { rcode: NXDOMAIN });
}

/** For who must not ask others: that there is no such name, REFUSED for what is no question of ours. */
export function denial(query: Buffer): Buffer | undefined {
  const denied = refusal(query);
  if (denied !== undefined || query.length < HEADER_BYTES) return denied;
  const header = Buffer.alloc(HEADER_BYTES);
  query.copy(header, 0, 0, 2);
  header.writeUInt16BE(QR | (query.readUInt16BE(2) & OPCODE_MASK) | REFUSED, 2);
  return header;
}

/** Undefined: not one question that we understand. */
export function nameAsked(query: Buffer): string | undefined {
  const question = parse(query);
  return question && canonicalName(question.name);
}

/** Undefined: not one question of class IN, or not a standard query. */
function parse(query: Buffer): Question | undefined {
  if (query.length < HEADER_BYTES) return undefined;
  const flags = query.readUInt16BE(2);
  // Looked at before the codec sees it, which makes room for as many records as are promised.
  if ((flags & (QR | OPCODE_MASK)) !== 0 || query.readUInt16BE(4) !== 1) return undefined;
  if (query.readUInt32BE(6) !== 0 || query.readUInt16BE(10) > MOST_ADDITIONALS) return undefined;
  try {
    const { id, questions, additionals } = dnsPacket.decode(query);
    const [question] = questions ?? [];
    if (question?.class !== "IN") return undefined;
    const opts = (additionals ?? []).filter(({ type }) => type === "OPT");
    if (opts.length > 1) return undefined;
    const { name, type } = question;
    return { id: id ?? 0, flags, name, type, opt: opts[0] as Opt | undefined };
  } catch {
    return undefined;
  }
}

/** Undefined: not a name of ours. A name of ours has no records of the types that we do not know. */
function look(
  { name, type }: Question,
  names: NameTable,
  scope: Scope,
  patient: boolean,
): Data | "unknown" | undefined {
  const canonical = canonicalName(name);
  const family = type === "A" ? 4 : type === "AAAA" ? 6 : undefined;
  const found = names.find(scope, canonical, family, patient);
  if (found === "unknown") return found;
  if (found !== undefined)
    return family === undefined
      ? { type: "PTR", data: [] }
      : { type: family === 4 ? "A" : "AAAA", data: found.ips };
  const services = names.services(scope, canonical, patient);
  if (services === "unknown") return services;
  if (services !== undefined) return { type: "SRV", data: type === "SRV" ? services : [] };
  const ip = reverseName(canonical);
  const own = ip && names.reverse(scope, ip);
  return own === undefined ? undefined : { type: "PTR", data: type === "PTR" ? [own] : [] };
}

/** As many as the asker takes. */
function fit(question: Question, { type, data }: Data, transport: Transport): dnsPacket.Answer[] {
  const { name, opt } = question;
  const limit =
    transport === "tcp"
      ? TCP_BYTES
      : Math.min(Math.max(opt?.udpPayloadSize ?? 0, PLAIN_UDP_BYTES), UDP_BYTES);
  let left = limit - HEADER_BYTES - (nameBytes(name) + 4) - (opt === undefined ? 0 : 11);
  const answers: dnsPacket.Answer[] = [];
  for (const value of data) {
    const answer = { name, class: "IN", ttl: TTL_S } as const;
    if (typeof value === "object") {
      left -= nameBytes(name) + 10 + SRV_BYTES + nameBytes(value.target);
      // Where each is as good as the others (RFC 2782).
      answers.push({ ...answer, type: "SRV", data: { priority: 0, weight: 0, ...value } });
    } else {
      left -= nameBytes(name) + 10 + (type === "A" ? 4 : type === "AAAA" ? 16 : nameBytes(value));
      answers.push({ ...answer, type: type as "A" | "AAAA" | "PTR", data: value });
    }
    if (left < 0) return answers.slice(0, -1);
  }
  return answers;
}

/** On the wire: a length before each label, and the root. */
function nameBytes(name: string): number {
  return name === "." ? 1 : Buffer.byteLength(name) + 2;
}

function encode(
  { id, flags, name, type, opt }: Question,
  answers: dnsPacket.Answer[],
  what: { truncated?: boolean; badVersion?: boolean; rcode?: number },
): Buffer {
  return dnsPacket.encode({
    type: "response",
    id,
    flags:
      (flags & REPEATED) |
      dnsPacket.RECURSION_AVAILABLE |
      (what.truncated === true ? dnsPacket.TRUNCATED_RESPONSE : 0) |
      (what.rcode ?? 0),
    questions: [{ name, type: type as dnsPacket.RecordType, class: "IN" }],
    answers,
    additionals:
      opt === undefined
        ? []
        : [
            {
              type: "OPT",
              name: ".",
              udpPayloadSize: UDP_BYTES,
              extendedRcode: what.badVersion === true ? BADVERS_UPPER : 0,
              ednsVersion: 0,
              // DO is repeated (RFC 3225, 3).
              flags: opt.flags & dnsPacket.DNSSEC_OK,
              flag_do: false,
              options: [],
            },
          ],
  });
}

/**
 * The asker compares the question with its own. What the codec does not give back byte by byte (a dot
 * inside a label, bytes that are no text) was no name of ours.
 */
function echoing(query: Buffer, { name }: Question, bytes: Buffer, records: number): Reply {
  const end = HEADER_BYTES + nameBytes(name) + 4;
  if (query.compare(bytes, HEADER_BYTES, end, HEADER_BYTES, end) !== 0) return "forward";
  return { bytes, records };
}
