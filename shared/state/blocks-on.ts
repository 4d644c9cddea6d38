import type { BlockRecord } from "../cluster-state.ts";
import type { NetworkId } from "../ids.ts";
import { byText, isKnownInOrder, placeOf } from "./ordered-list.ts";

/** Of one network, in their order. Looked up where the list is known to be in order, as that of a state that is followed. */
export function blocksOn(blocks: BlockRecord[], network: NetworkId): BlockRecord[] {
  if (!isKnownInOrder(blocks)) return blocks.filter((block) => block.network === network);
  const begin = placeOf(blocks, network, (block, of) => byText(block.network, of) || 1);
  return blocks.slice(
    begin,
    placeOf(blocks, network, (block, of) => byText(block.network, of)),
  );
}
