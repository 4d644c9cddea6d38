import { createSocket } from "node:dgram";
import { once } from "node:events";
import { connect, createServer, type AddressInfo } from "node:net";
import { expect, test, vi } from "vitest";
import { portTaken } from "../../../agent/encryption/wireguard/device.ts";
import { withPortNamed } from "../../../agent/kernel/port-holder.ts";
import { OverlayError } from "../../../shared/errors.ts";
import { portHolder } from "../../../shared/node/port-holder.ts";
import { PATIENT } from "../../support/patient.ts";

const refused = new OverlayError({
  code: "NETLINK",
  op: "IFF_UP 134",
  errno: "EADDRINUSE",
  message: "the kernel refused IFF_UP 134: EADDRINUSE",
});

test("a port that is taken is said with who has it, and what to do", async () => {
  const socket = createSocket("udp4").bind(0, "127.0.0.1");
  await once(socket, "listening");
  const { port } = socket.address();
  try {
    expect(portHolder("udp", port)).toMatch(new RegExp(`^.+ \\(process ${process.pid}\\)$`));
    expect(withPortNamed(refused, port)).toMatchObject({
      code: "PORT_TAKEN",
      message: expect.stringMatching(
        new RegExp(`^UDP port ${port}, which VXLAN needs, is taken by .*process ${process.pid}`),
      ),
      next: expect.stringContaining(`ss -Hulnp sport = :${port}`),
    });
    expect(portTaken(port).message).toMatch(
      /which WireGuard needs, is taken by .*\(process \d+\)$/,
    );
    expect(portHolder("tcp", port)).toBeUndefined();
  } finally {
    socket.close();
    await once(socket, "close");
  }
  expect(portHolder("udp", port)).toBeUndefined();
});

test("of a TCP port it is who listens, not who is connected to it", async () => {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const client = connect(port, "127.0.0.1");
  const [accepted] = (await once(server, "connection")) as [{ destroy(): void }];
  expect(portHolder("tcp", port)).toContain(`(process ${process.pid})`);
  server.close();
  await vi.waitFor(() => expect(portHolder("tcp", port)).toBeUndefined(), PATIENT);
  client.destroy();
  accepted.destroy();
});

test("of another device nothing more is known, and another failure is another", () => {
  expect(withPortNamed(refused, 1)).toMatchObject({
    message: expect.stringContaining("another device or program"),
  });
  const other = new OverlayError({ code: "NETLINK", errno: "EINVAL", message: "no" });
  expect(withPortNamed(other, 1)).toBe(other);
});
