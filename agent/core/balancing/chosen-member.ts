/**
 * Rendezvous hashing: of the members each client prefers the one of which the two names together hash highest. One that
 * goes moves its own clients and no others; one that comes takes only what is its own.
 */
export function chosenMember<M extends { readonly endpoint: string }>(
  client: string,
  members: readonly M[],
): M | undefined {
  let best: M | undefined;
  let bestWeight = -1;
  for (const member of members) {
    const weight = hash(`${client} ${member.endpoint}`);
    const isBetter =
      weight > bestWeight || (weight === bestWeight && member.endpoint < best!.endpoint);
    if (!isBetter) continue;
    best = member;
    bestWeight = weight;
  }
  return best;
}

/** FNV-1a of 32 bits, and MurmurHash3's last step, without which names that differ at their end hash alike. */
function hash(text: string): number {
  let value = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) value = Math.imul(value ^ text.charCodeAt(i), 0x01000193);
  value = Math.imul(value ^ (value >>> 16), 0x85ebca6b);
  value = Math.imul(value ^ (value >>> 13), 0xc2b2ae35);
  return (value ^ (value >>> 16)) >>> 0;
}
