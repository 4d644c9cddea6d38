import { chmodSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { asFailure, OverlayError } from "../../shared/errors.ts";
import { exposition } from "../../shared/exposition.ts";
import { gauge, only } from "../../shared/metric-family.ts";
import { agentMetrics, type Context, metricsOfController } from "./context.ts";
import { onController } from "./on-controller.ts";

export interface MetricsOptions {
  readonly textfile?: string;
}

/** What the textfile says while nobody answers: an old one would say that all is well. */
const DOWN = exposition([
  gauge(
    "overlay_ts_up",
    "The agent answers: 0 in a textfile that was written without it.",
    only(0),
  ),
]);
/** Without series the controller's alerts say so. */
const NO_CONTROLLER = "";

export function metrics(context: Context, options: MetricsOptions): Promise<void> {
  return told(options, () => agentMetrics(context), DOWN);
}

export function controllerMetrics(context: Context, options: MetricsOptions): Promise<void> {
  return told(options, () => onController(() => metricsOfController(context)), NO_CONTROLLER);
}

async function told(
  { textfile }: MetricsOptions,
  ask: () => Promise<string>,
  otherwise: string,
): Promise<void> {
  if (textfile === undefined) {
    process.stdout.write(await ask());
    return;
  }
  let text = otherwise;
  try {
    text = await ask();
  } finally {
    putWhole(textfile, text);
  }
}

/** Whoever reads it meanwhile has the one before, or this one. Its name until then is none that node_exporter reads. */
function putWhole(file: string, text: string): void {
  const made = `${file}.${process.pid}`;
  try {
    writeFileSync(made, text);
    // Its reader is another user, whatever the umask.
    chmodSync(made, 0o644);
    renameSync(made, file);
  } catch (cause) {
    rmSync(made, { force: true });
    throw new OverlayError(
      {
        code: "INVALID",
        message: `${file} cannot be written: ${asFailure(cause).message}`,
        next: "give a file in the directory of node_exporter's --collector.textfile.directory",
      },
      { cause },
    );
  }
}
