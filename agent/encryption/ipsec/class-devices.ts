import { readdirSync } from "node:fs";
import { join } from "node:path";
import { isPinnedNetns } from "../../kernel/netns.ts";
import { linksOf } from "../../kernel/netlink/dumps.ts";
import { setDown } from "../../kernel/netlink/route.ts";
import { RtNetlink } from "../../kernel/netlink/socket.ts";

/**
 * The last lock, when no other can be had: every VXLAN device of the port, in the pinned namespaces of
 * the directory, is set down, and its socket with it. What a container holds stays. @throws NETLINK.
 */
export async function setClassDown(netnsDirectory: string, udpPort: number): Promise<void> {
  for (const name of readdirSync(netnsDirectory)) {
    const path = join(netnsDirectory, name);
    if (!isPinnedNetns(path)) continue;
    const socket = new RtNetlink(path);
    try {
      const ofClass = (await linksOf(socket)).filter(({ vxlan }) => vxlan?.udpPort === udpPort);
      await socket.batch(ofClass.map(({ index }) => setDown(index)));
    } finally {
      socket.close();
    }
  }
}
