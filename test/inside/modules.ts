import { execFileSync, spawnSync } from "node:child_process";

/** In software this takes longer than an answer of the kernel, or the nft program, is waited for. */
export function loadModules(): void {
  const names =
    "esp4 esp6 gcm seqiv vxlan bridge veth nft_ct nft_fib_inet nft_meta_bridge nft_nat nft_masq nft_chain_nat";
  const env = { ...process.env, PATH: `${process.env["PATH"] ?? ""}:/usr/sbin:/sbin` };
  execFileSync("modprobe", ["-a", ...names.split(" ")], { env });
  // A part of nf_tables since 6.2, and then none of its own.
  spawnSync("modprobe", ["-q", "nft_objref"], { env });
}
