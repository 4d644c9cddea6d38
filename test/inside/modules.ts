import { execFileSync } from "node:child_process";

/** In software this takes longer than an answer of the kernel, or the nft program, is waited for. */
export function loadModules(): void {
  const names =
    "esp4 esp6 gcm seqiv vxlan bridge veth nft_ct nft_fib_inet nft_objref nft_meta_bridge";
  execFileSync("modprobe", ["-a", ...names.split(" ")], {
    env: { ...process.env, PATH: `${process.env["PATH"] ?? ""}:/usr/sbin:/sbin` },
  });
}
