import { measureNames } from "./names.ts";

/** `node test/bench/names-main.ts`: names alone, without a lab; figures as JSON. */

const names = await measureNames({ rounds: 5, forMs: 3000, perSecond: 7500, sandboxes: 200 });
process.stdout.write(`${JSON.stringify(names, undefined, 2)}\n`);
