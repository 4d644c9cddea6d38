/** DNS over TCP: each message after its length in two bytes (RFC 1035, 4.2.2). */

export function framed(message: Buffer): Buffer {
  const bytes = Buffer.allocUnsafe(2 + message.length);
  bytes.writeUInt16BE(message.length, 0);
  message.copy(bytes, 2);
  return bytes;
}

/** Messages of a stream, however it was cut. Holds at most one that is not whole yet. */
export class Unframer {
  #rest: Buffer[] = [];
  #held = 0;

  /** The messages that are whole now. */
  push(chunk: Buffer): Buffer[] {
    this.#rest.push(chunk);
    this.#held += chunk.length;
    if (this.#held < this.#wanted()) return [];
    const all = Buffer.concat(this.#rest);
    const messages: Buffer[] = [];
    let at = 0;
    while (all.length - at >= 2) {
      const end = at + 2 + all.readUInt16BE(at);
      if (end > all.length) break;
      messages.push(all.subarray(at + 2, end));
      at = end;
    }
    this.#rest = [all.subarray(at)];
    this.#held = all.length - at;
    return messages;
  }

  /** Bytes until the next message is whole; a stream in single bytes is put together once. */
  #wanted(): number {
    const [first, second] = this.#rest;
    if (first === undefined || this.#held < 2) return 2;
    if (first.length >= 2) return 2 + first.readUInt16BE(0);
    return 2 + ((first[0] ?? second?.[0] ?? 0) << 8);
  }
}
