import { Command } from "commander";
import type { Context } from "./context.ts";
import { type Environment, readEnvironment } from "./environment.ts";
import { VERSION } from "../../shared/version.ts";
import type { ListOptions, OfNetworkOptions } from "./listing.ts";
import type { EndOptions } from "./leaving.ts";
import type { AgentOptions } from "./services.ts";
import { fail, print } from "./output.ts";
import {
  EVENTS_HELP,
  EXAMPLES,
  GROUPS,
  KEY_HELP,
  LIST_HELP,
  NAMES_HELP,
  SCHEDULE_HELP,
  STATUS_HELP,
  VIP_HELP,
} from "./help-texts.ts";
import { controllerMetrics, metrics, type MetricsOptions } from "./metrics-command.ts";
import * as names from "./names-commands.ts";
import * as keys from "./key-commands.ts";
import * as networks from "./network-commands.ts";
import * as vips from "./vip-commands.ts";
import * as nodes from "./node-commands.ts";
import * as own from "./status-command.ts";

/**
 * The command line: every command, its options, and nothing else. Parsed by start.ts; the man page and the shells'
 * completions are made of it (deploy/package).
 */

const environment = environmentOrExit();

export const program = new Command("overlay-ts")
  .description("Networks that span Docker hosts")
  .version(VERSION, "-V, --version", "print this program's version")
  .option("--data-dir <path>", "where keys and databases are", environment.dataDirectory)
  .option("--run-dir <path>", "where sockets and namespaces are", environment.runDirectory)
  .configureOutput({
    outputError: (text, write) => write(text.replace(/^error: /, "overlay-ts: ")),
  })
  .showHelpAfterError("  → `overlay-ts --help` lists the commands")
  .addHelpText("after", EXAMPLES);
// Before commands are added, which take it over: wrong usage is 2, as output.ts says.
program.exitOverride(({ exitCode }) => process.exit(exitCode === 0 ? 0 : 2));

function environmentOrExit(): Environment {
  try {
    return readEnvironment(process.env);
  } catch (error) {
    process.exit(fail({}, error));
  }
}

function contextOf(command: Command): Context {
  const { dataDir, runDir, json } = command.optsWithGlobals<{
    dataDir: string;
    runDir: string;
    json?: boolean;
  }>();
  const { patienceMs } = environment;
  return { dataDirectory: dataDir, runDirectory: runDir, json, patienceMs };
}

/** Runs a command; what it throws is printed with its next step, and becomes the exit status. */
function run(action: (context: Context, args: string[], options: never) => Promise<unknown>) {
  return async (...all: unknown[]): Promise<void> => {
    const command = all.at(-1) as Command;
    const context = contextOf(command);
    try {
      const status = await action(context, command.args, command.opts<never>());
      if (typeof status === "number") process.exitCode = status;
    } catch (error) {
      process.exitCode = fail(context, error);
    }
  };
}

/** Of an option that may be given again. */
const collect = (value: string, before: string[] = []): string[] => [...before, value];

function add(parent: Command, usage: string, description: string): Command {
  const group = parent === program ? "" : `${parent.name()} `;
  return parent
    .command(usage)
    .description(description)
    .option("--json", "print JSON")
    .showHelpAfterError(
      `  → usage: overlay-ts ${group}${usage} [options]; \`--help\` has all of them`,
    );
}

/** Of commands that list things: as docker and kubectl have them. */
function adding(parent: Command, usage: string, description: string): Command {
  return add(parent, usage, description)
    .option("-q, --quiet", "names alone")
    .option("--format <template>", 'as "{{.Name}} {{.Address}}", or json: an object a line')
    .option("--filter <field=value>", "those alone; may be given again", collect)
    .addHelpText("after", LIST_HELP);
}

const ENGINE_SOCKET = "/run/docker.sock";
const PLUGIN_SOCKET = "/run/docker/plugins/overlay-ts.sock";

function ending(usage: string, description: string): Command {
  return add(program, usage, description)
    .option("--force", "even while containers use its networks; they lose their connection")
    .option("--docker <socket>", "the engine's socket, when no agent runs", ENGINE_SOCKET)
    .option(
      "--plugin-socket <path>",
      "where Docker connects to the plugin, when no agent runs",
      PLUGIN_SOCKET,
    );
}

/** Loaded apart, since it needs libp2p: the other commands start faster without. */
const membership = (): Promise<typeof import("./membership-commands.ts")> =>
  import("./membership-commands.ts");

add(program, "status", "is all well, and what is wrong; then peers, data path, networks")
  .option("--check", "the first line alone")
  .option("-w, --watch", "again every two seconds, until interrupted")
  .addHelpText("after", STATUS_HELP)
  .action(run((context, _args, options: own.StatusOptions) => own.status(context, options)));
add(
  program,
  "probe",
  "prove the data path to every host now; status 1 if one does not answer",
).action(run((context) => own.probe(context)));
add(program, "verify", "compare kernel, Docker and tables; status 1 if they differ").action(
  run((context) => own.verify(context)),
);

program
  .command("metrics")
  .description("this host's numbers, as Prometheus reads them")
  .option("--textfile <file>", "into a file of node_exporter's textfile collector, put there whole")
  .action(run((context, _args, options: MetricsOptions) => metrics(context, options)));

adding(program, "names [network]", "who is found by which name, where, and why one is out")
  .option("--network <name>", "of this network only")
  .option("--all", "include Docker's short ids, which every container has as a name")
  .addHelpText("after", NAMES_HELP)
  .action(
    run((context, [network], options: names.NamesOptions) =>
      names.names(context, network, options),
    ),
  );

add(program, "events", "what happened, as this host sees it, since its agent started")
  .option("-f, --follow", "go on with new events, until interrupted")
  .option("--since <time>", "only events of the last 90s, 15m, 24h, 7d, or since a date (ISO 8601)")
  .option("--network <name>", "of this network only")
  .addHelpText("after", EVENTS_HELP)
  .action(run((context, _args, options: names.EventsOptions) => names.events(context, options)));

add(program, "init", "make a cluster: its controller and first host are here")
  .option("--advertise-addr <ip>", "this host's address that the others reach")
  .option("--name <name>", "this host's name in the cluster (default: its host name)")
  .option("--encryption <kind>", "default for new networks: none (the default), wireguard, ipsec")
  .action(run(async (context, _args, options) => (await membership()).init(context, options)));

add(
  program,
  "join <controller>",
  "make this host a member: address[:port] of the controller's host",
)
  .option("--token <token>", "what `init` or `token create` printed (shows in ps)")
  .option("--token-file <path>", "a file with the token; or set OVERLAY_TS_TOKEN")
  .option("--advertise-addr <ip>", "this host's address that the others reach")
  .option("--listen-addr <ip>", "its own address, when the advertised one is a NAT's")
  .option("--name <name>", "this host's name in the cluster (default: its host name)")
  .option("--replace", "its identity was admitted on another machine, which is gone")
  .action(
    run(async (context, [controller = ""], options) =>
      (await membership()).join(context, controller, options),
    ),
  );

ending("leave", "this host forgets the cluster; its networks go from kernel and engine").action(
  run(async (context, _args, options: EndOptions) =>
    (await import("./leaving.ts")).leave(context, options),
  ),
);

ending(
  "withdraw",
  "take this host's networks out of kernel and engine until the agent starts again; it stays a member",
).action(
  run(async (context, _args, options: EndOptions) =>
    (await import("./leaving.ts")).withdraw(context, options),
  ),
);

const node = program.command("node").description("hosts of the cluster");
adding(node, "ls", "list them, as seen from here").action(
  run((context, _args, options: ListOptions) => nodes.nodeList(context, options)),
);
add(node, "rm <name>", "revoke a host for good (on the controller's host)").action(
  run((context, [name = ""]) => nodes.nodeRemove(context, name)),
);

add(node, "readdress", "this host has another address now; containers and blocks stay")
  .option("--advertise-addr <ip>", "this host's address that the others reach")
  .option("--listen-addr <ip>", "its own address, when the advertised one is a NAT's")
  .option("--replace", "it was admitted on another machine, which is gone")
  .action(
    run(async (context, _args, options) =>
      (await import("./readdress-command.ts")).nodeReaddress(context, options),
    ),
  );

const network = program.command("network").description("networks of the cluster");
adding(network, "ls", "list them").action(
  run((context, _args, options: ListOptions) => networks.networkList(context, options)),
);
add(network, "inspect <name>", "all that is known of one, as JSON").action(
  run((context, [name = ""]) => networks.networkInspect(context, name)),
);
add(network, "create <name>", "make one; it appears on every host's engine")
  .option("--subnet <cidr>", "default: a free one of the cluster's pools")
  .option("--gateway <ip>", "default: the subnet's first address")
  .option("--ip-range <cidr>", "containers get addresses from here")
  .option("--aux-address <ip>", "no container gets it; may be given again", collect)
  .option("--internal", "without the way out through the host")
  .option("-o, --opt <name=value>", "driver option", collect)
  .option("--label <name=value>", "label", collect)
  .action(run((context, [name = ""], options) => networks.networkCreate(context, name, options)));
add(network, "rm <name>", "end one, on every host").action(
  run((context, [name = ""]) => networks.networkRemove(context, name)),
);

add(network, "expose <name>", "give this host an address in one, to reach its containers").action(
  run((context, [name = ""]) => networks.networkExpose(context, name)),
);
add(network, "hide <name>", "take that address away").action(
  run((context, [name = ""]) => networks.networkHide(context, name)),
);

const vip = program.command("vip").description("virtual addresses, each for all who have a name");
add(vip, "add <network> <name>", "one for a name: new connections go to members that are ready")
  .option("--sticky", "a container that dials keeps its member")
  .addHelpText("after", VIP_HELP)
  .action(
    run((context, [network = "", name = ""], options: { sticky?: boolean }) =>
      vips.vipAdd(context, network, name, options),
    ),
  );
add(vip, "rm <network> <name>", "end one: the name answers its members again").action(
  run((context, [network = "", name = ""]) => vips.vipRemove(context, network, name)),
);
adding(vip, "ls [network]", "list them, and how many of their members are ready")
  .option("--network <name>", "of this network only")
  .action(
    run((context, [network], options: OfNetworkOptions) => vips.vipList(context, network, options)),
  );

const endpoint = program.command("endpoint").description("containers' interfaces");
adding(endpoint, "ls [network]", "list those of the networks this host is on")
  .option("--network <name>", "of this network only")
  .action(
    run((context, [network], options: OfNetworkOptions) =>
      networks.endpointList(context, network, options),
    ),
  );

const key = program.command("key").description("encryption keys");
add(key, "rotate", "make new keys, without a packet lost")
  .option("--node <name>", "only the IPsec keys with this host")
  .option("--network <name>", "instead, the gossip key of this network")
  .addHelpText("after", KEY_HELP)
  .action(run((context, _args, options: keys.RotateOptions) => keys.keyRotate(context, options)));

add(key, "schedule", "show or set how often keys rotate (on the controller's host)")
  .option("--ipsec <duration>", "rotation interval of IPsec keys: 90s, 15m, 24h, 7d")
  .option("--ipsec-packets <count>", "or after so many packets")
  .option("--ipsec-bytes <count>", "or after so many bytes")
  .option("--gossip <duration>", "rotation interval of gossip keys")
  .addHelpText("after", SCHEDULE_HELP)
  .action(
    run((context, _args, options: keys.ScheduleOptions) => keys.keySchedule(context, options)),
  );

const token = program.command("token").description("admission of hosts");
add(token, "create", "make a token for `join` (on the controller's host)")
  .option("--ttl <duration>", "how long it holds: 90s, 15m, 24h, 7d", "24h")
  .option("--uses <count>", "how many hosts it admits", "10")
  .option("--network <name>", "only this network for those hosts; may be given again", collect)
  .action(run((context, _args, options) => keys.tokenCreate(context, options)));

const controller = add(
  program,
  "controller",
  "run the controller (a service starts it); its commands back up and restore its data",
).action(run(async (context) => (await import("./services.ts")).controller(context)));
/** Loaded apart, since it needs libp2p. */
const keeping = (): Promise<typeof import("./controller-commands.ts")> =>
  import("./controller-commands.ts");

add(
  controller,
  "backup <file>",
  "save all data but the root key into one file (- for stdout)",
).action(run(async (context, [file = ""]) => (await keeping()).backup(context, file)));
add(controller, "restore <file>", "restore a backup on a host without a controller (- for stdin)")
  .option("--address <ip>", "where hosts reach it from now on (default: as before)")
  .action(
    run(async (context, [file = ""], options) =>
      (await keeping()).restoreBackup(context, file, options),
    ),
  );
add(
  controller,
  "recover",
  "after `restore`, or with old data: take over the newest state that the hosts hold",
)
  .requiredOption("--from-mesh", "from the newest state that any of the hosts holds")
  .action(run(async (context) => (await keeping()).recoverFromMesh(context)));
add(controller, "promote", "make this host the cluster's controller; hosts refuse the previous one")
  .requiredOption("--root-key <file>", "the root key that `init` made")
  .option("--backup <file>", "backup of the previous controller; without it all keys are made anew")
  .option("--address <ip>", "this host's address that the others reach")
  .action(run(async (context, _args, options) => (await keeping()).promote(context, options)));

controller
  .command("metrics")
  .description("its numbers, as Prometheus reads them; `overlay-ts metrics` has them too")
  .option("--textfile <file>", "into a file of node_exporter's textfile collector, put there whole")
  .action(run((context, _args, options: MetricsOptions) => controllerMetrics(context, options)));

add(program, "agent", "run the agent (a service starts it)")
  .option("--docker <socket>", "the engine's socket", ENGINE_SOCKET)
  .option("--plugin-socket <path>", "where Docker connects to the plugin", PLUGIN_SOCKET)
  .option("--no-docker", "without an engine")
  .action(
    run(async (context, _args, options: AgentOptions) =>
      (await import("./services.ts")).agent(context, options),
    ),
  );

add(program, "prepare", "compile the program once (the installer does it)").action(
  run(async () => (await import("./services.ts")).prepare()),
);

add(program, "version", "print this program's version").action(
  run(async (context) => print(context, { version: VERSION }, () => VERSION)),
);

for (const command of program.commands)
  for (const [heading, members] of Object.entries(GROUPS))
    if (members.includes(command.name())) command.helpGroup(heading);
