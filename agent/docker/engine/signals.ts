import { constants } from "node:os";
import { TERM } from "../../core/names/container-life.ts";

/** glibc's, which moby counts from (moby/sys/signal, signal_linux.go). */
const RTMIN = 34;
const RTMAX = 64;

/** `SIGTERM`, `TERM`, `15`, `SIGRTMIN+3`; what is none of these is the default, as for Docker. */
export function signalNumber(text: string): number {
  const name = text.trim().toUpperCase().replace(/^SIG/, "");
  if (/^\d+$/.test(name)) return Number(name);
  const real = /^RTM(IN|AX)(?:[+-](\d+))?$/.exec(name);
  if (real !== null)
    return real[1] === "IN" ? RTMIN + Number(real[2] ?? 0) : RTMAX - Number(real[2] ?? 0);
  return (constants.signals as Readonly<Record<string, number>>)[`SIG${name}`] ?? TERM;
}
