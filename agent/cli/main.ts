import { Command } from "commander";
import type { Context } from "./context.ts";
import { type Environment, readEnvironment } from "./environment.ts";
import type { AgentOptions } from "./services.ts";
import { fail } from "./output.ts";
import * as names from "./names-commands.ts";
import * as show from "./show-commands.ts";

/** The command line: every command, its options, and nothing else. */

const environment = environmentOrExit();

const program = new Command("overlay-ts")
  .description("Networks that span Docker hosts")
  .option("--data-dir <path>", "where keys and databases are", environment.dataDirectory)
  .option("--run-dir <path>", "where sockets and namespaces are", environment.runDirectory)
  .showHelpAfterError();

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
  return { dataDirectory: dataDir, runDirectory: runDir, json };
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

function add(parent: Command, usage: string, description: string): Command {
  return parent.command(usage).description(description).option("--json", "print JSON");
}

const NAMES_HELP = `
A container is found by its name and aliases, and by \`<name>.<network>\`. Several may hold one name.
STATE is "in" (in answers), or why it is in none:
  starting, unhealthy         its health check says so; \`-o dns.unhealthy=include\` passes over it
  paused, stopping            as Docker says
  unreachable                 this host does not reach the container's host
  not-admitted, not-allowed   its host may not be here (any more)
  not-in-block, gateway, mac-rule, mac-taken, address-taken, no-address
                              its address or MAC is not its host's to give: nothing of it is believed`;

const EVENTS_HELP = `
A line is: time, network, who, what happened, more; with --json one object a line.
  in, out, changed, gone      a container's names: in answers, in none and why, others now, gone
  appeared, named, ended      a network of the cluster
  here, not-here              this host came to be on it, or is no more
  removed, put-back           its view on this engine
  joined, left, unreachable, back   a host
  problem, recovered          a kernel pass, the guards, WireGuard or IPsec, the disk
  lost                        what the disk had and cannot be read; peers and kernel fill it again
  tampered                    somebody else changed the guards; they are put back`;

const KEY_HELP = `
Without an option: IPsec's, of all pairs that this host is one of. They change by themselves too, as
\`key schedule\` says; WireGuard's session keys every two minutes.`;

const SCHEDULE_HELP = `
Without an option: what holds. What is given holds from each key's next change on (\`key rotate\` makes it
now). Bounds: --ipsec 10s to 7d, --ipsec-packets 1000 to 2147483648, --ipsec-bytes 1048576 to 2^50,
--gossip 1h to 3650d.`;

/** Apart from the others, with libp2p: what only shows is quick. */
const membership = (): Promise<typeof import("./membership-commands.ts")> =>
  import("./membership-commands.ts");

const collect = (value: string, before: string[]): string[] => [...before, value];

add(program, "init", "make a cluster: its controller and first host are here")
  .option("--advertise-addr <ip>", "this host's address that the others reach")
  .option("--name <name>", "this host's name in the cluster (default: its host name)")
  .option(
    "--encryption <kind>",
    "of networks that say nothing: none (the default), wireguard, ipsec",
  )
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
  .action(
    run(async (context, [controller = ""], options) =>
      (await membership()).join(context, controller, options),
    ),
  );

add(program, "leave", "this host forgets the cluster")
  .option("--force", "also while containers use its networks")
  .action(run(async (context, _args, options) => (await membership()).leave(context, options)));

add(
  program,
  "withdraw",
  "take this host's networks out of kernel and engine until the agent starts again; it stays a member",
)
  .option("--force", "also while containers use its networks")
  .action(run(async (context, _args, options) => (await membership()).withdraw(context, options)));

add(program, "status", "this host: peers, data path, networks, what is wrong").action(
  run((context) => show.status(context)),
);
add(
  program,
  "probe",
  "prove the data path to every host now; status 1 if one does not answer",
).action(run((context) => show.probe(context)));
add(program, "verify", "compare kernel, Docker and tables; status 1 if they differ").action(
  run((context) => show.verify(context)),
);

add(program, "names [network]", "who is found by which name, where, and why one is out")
  .option("--all", "Docker's short ids too, which every container has as a name")
  .addHelpText("after", NAMES_HELP)
  .action(
    run((context, [network], options: names.NamesOptions) =>
      names.names(context, network, options),
    ),
  );

add(program, "events", "what happened, as this host sees it, since its agent started")
  .option("-f, --follow", "what happens from now on too, until interrupted")
  .option("--since <duration>", "of the last 90s, 15m, 24h, 7d")
  .option("--network <name>", "of this network only")
  .addHelpText("after", EVENTS_HELP)
  .action(run((context, _args, options: names.EventsOptions) => names.events(context, options)));

const node = program.command("node").description("hosts of the cluster");
add(node, "ls", "list them, as seen from here").action(run((context) => show.nodeList(context)));
add(node, "rm <name>", "revoke a host for good (on the controller's host)").action(
  run((context, [name = ""]) => show.nodeRemove(context, name)),
);

const network = program.command("network").description("networks of the cluster");
add(network, "ls", "list them").action(run((context) => show.networkList(context)));
add(network, "inspect <name>", "all that is known of one, as JSON").action(
  run((context, [name = ""]) => show.networkInspect(context, name)),
);
add(network, "create <name>", "make one; it appears on every host's engine")
  .option("--subnet <cidr>", "default: a free one of the cluster's pools")
  .option("--gateway <ip>", "default: the subnet's first address")
  .option("--ip-range <cidr>", "containers get addresses from here")
  .option("--aux-address <ip>", "no container gets it; may be given again", collect, [])
  .option("--internal", "without the way out through the host")
  .option("-o, --opt <name=value>", "driver option", collect, [])
  .option("--label <name=value>", "label", collect, [])
  .action(run((context, [name = ""], options) => show.networkCreate(context, name, options)));
add(network, "rm <name>", "end one, on every host").action(
  run((context, [name = ""]) => show.networkRemove(context, name)),
);

add(network, "expose <name>", "give this host an address in one, to reach its containers").action(
  run((context, [name = ""]) => show.networkExpose(context, name)),
);
add(network, "hide <name>", "take that address away").action(
  run((context, [name = ""]) => show.networkHide(context, name)),
);

const endpoint = program.command("endpoint").description("containers' interfaces");
add(endpoint, "ls", "list those of the networks this host is on")
  .option("--network <name>", "of this network only")
  .action(
    run((context, _args, options: { network?: string }) =>
      show.endpointList(context, options.network),
    ),
  );

const key = program.command("key").description("keys that are in use");
add(key, "rotate", "make new ones, without a packet lost")
  .option("--node <name>", "IPsec's with this host only")
  .option("--network <name>", "instead, the key that seals what hosts say of this network")
  .addHelpText("after", KEY_HELP)
  .action(run((context, _args, options: show.RotateOptions) => show.keyRotate(context, options)));

add(key, "schedule", "when they change by themselves (on the controller's host)")
  .option("--ipsec <duration>", "IPsec's of two hosts: after 90s, 15m, 24h, 7d")
  .option("--ipsec-packets <count>", "or after so many packets")
  .option("--ipsec-bytes <count>", "or after so many bytes")
  .option("--gossip <duration>", "those that seal what hosts say of a network")
  .addHelpText("after", SCHEDULE_HELP)
  .action(
    run((context, _args, options: show.ScheduleOptions) => show.keySchedule(context, options)),
  );

const token = program.command("token").description("admission of hosts");
add(token, "create", "make a token for `join` (on the controller's host)")
  .option("--ttl <duration>", "how long it holds: 90s, 15m, 24h, 7d", "24h")
  .option("--uses <count>", "how many hosts it admits", "10")
  .option(
    "--network <name>",
    "only this network for those hosts; may be given again",
    (value: string, before: string[] | undefined) => collect(value, before ?? []),
  )
  .action(run((context, _args, options) => show.tokenCreate(context, options)));

const controller = add(
  program,
  "controller",
  "run the controller (a service starts it); its commands keep its data, and bring them back",
).action(run(async (context) => (await import("./services.ts")).controller(context)));
/** Apart from the others, with libp2p. */
const keeping = (): Promise<typeof import("./controller-commands.ts")> =>
  import("./controller-commands.ts");

add(controller, "backup <file>", "all of it but the root key, into one file (- for stdout)").action(
  run(async (context, [file = ""]) => (await keeping()).backup(context, file)),
);
add(controller, "restore <file>", "onto a host without a controller (- for stdin)")
  .option("--address <ip>", "where hosts reach it from now on (default: as before)")
  .action(
    run(async (context, [file = ""], options) =>
      (await keeping()).restoreBackup(context, file, options),
    ),
  );
add(
  controller,
  "recover",
  "after `restore`, or when its data are old: what hosts hold, it knows again",
)
  .requiredOption("--from-mesh", "from the newest state that any of the hosts holds")
  .action(run(async (context) => (await keeping()).recoverFromMesh(context)));
add(controller, "promote", "make this host's the cluster's controller, and shut the one before out")
  .requiredOption("--root-key <file>", "that `init` made, and that was moved away from there")
  .option("--backup <file>", "of the controller before; without it all keys are made anew")
  .option("--address <ip>", "this host's address that the others reach")
  .action(run(async (context, _args, options) => (await keeping()).promote(context, options)));

add(program, "agent", "run the agent (a service starts it)")
  .option("--docker <socket>", "the engine's socket", "/run/docker.sock")
  .option(
    "--plugin-socket <path>",
    "where the engine looks for us",
    "/run/docker/plugins/overlay-ts.sock",
  )
  .option("--no-docker", "without an engine")
  .action(
    run(async (context, _args, options: AgentOptions) =>
      (await import("./services.ts")).agent(context, options),
    ),
  );

add(program, "prepare", "compile the program once (the installer does it)").action(
  run(async () => (await import("./services.ts")).prepare()),
);

await program.parseAsync();
