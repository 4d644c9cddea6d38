// The program's first lines. Nothing else is imported here: all of a static import is loaded before
// any line runs, and meanwhile containers' questions may be waiting.
import "./inherited.ts";

const { program } = await import("./main.ts");
await program.parseAsync();
