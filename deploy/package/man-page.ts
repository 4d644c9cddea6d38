import { allCommands, type CommandNode, type OptionNode } from "./command-tree.ts";

/** overlay-ts(8), in man(7)'s macros. */
export function manPage(program: CommandNode, version: string, date: string): string {
  const commands = allCommands(program).filter(
    ({ words, children, options }) =>
      words.length > 0 && (children.length === 0 || options.length > 1),
  );
  return [
    `.TH OVERLAY\\-TS 8 "${date}" "overlay\\-ts ${version}" "System Administration"`,
    ".SH NAME",
    `overlay\\-ts \\- ${roff(lowerFirst(program.description))}`,
    ".SH SYNOPSIS",
    ".B overlay\\-ts",
    "[\\fIoptions\\fR] \\fIcommand\\fR [\\fIarguments\\fR]",
    ".SH DESCRIPTION",
    "An agent on each host gives its Docker engine networks that span hosts. A controller on one of the hosts admits",
    "the others and defines networks; what runs does not need it. The package starts the agent; the first host runs",
    "\\fBoverlay\\-ts init\\fR after \\fBsystemctl enable \\-\\-now overlay\\-ts\\-controller\\fR, the others",
    "\\fBoverlay\\-ts join\\fR with what that prints.",
    ".SH OPTIONS",
    ...program.options.flatMap(option),
    ".SH COMMANDS",
    "Each has \\fB\\-h\\fR, \\fB\\-\\-help\\fR.",
    ...commands.flatMap(command),
    ".SH EXIT STATUS",
    "0: done. 1: it failed, or what was asked is not so. 2: wrong usage. 3: this host is no member. 4: not reached in",
    "time. 5: not found. 6: in conflict with what is there. 7: not allowed.",
    ".SH FILES",
    ...FILES.flatMap(([path, what]) => [".TP", `\\fI${roff(path)}\\fR`, roff(what)]),
    ".SH SEE ALSO",
    "\\fI/usr/share/doc/overlay\\-ts/README.md.gz\\fR, \\fBdocker\\-network\\fR(1), \\fBsystemctl\\fR(1)",
    "",
  ].join("\n");
}

const FILES = [
  ["/etc/default/overlay-ts", "Variables of the services."],
  [
    "/var/lib/overlay-ts",
    "The host's key, membership and tables; on one host the controller's data.",
  ],
  ["/run/overlay-ts", "Sockets of the command line, pinned network namespaces."],
] as const;

function command({ usage, description, options, more }: CommandNode): string[] {
  return [
    ".SS",
    `overlay\\-ts ${roff(usage)}`,
    roff(sentence(description)),
    ...options.filter(({ names }) => !names.includes("--help")).flatMap(option),
    ...(more === "" ? [] : [".PP", ".nf", ...more.split("\n").map(roff), ".fi"]),
  ];
}

function option({ flags, description }: OptionNode): string[] {
  return [".TP", `\\fB${roff(flags)}\\fR`, roff(sentence(description))];
}

/** As text: no line of it is a request, no hyphen a typographic one. */
function roff(text: string): string {
  return text.replaceAll("\\", "\\e").replaceAll("-", "\\-").replaceAll(/^[.']/gm, "\\&$&");
}

const lowerFirst = (text: string): string => text.charAt(0).toLowerCase() + text.slice(1);
const sentence = (text: string): string => `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
