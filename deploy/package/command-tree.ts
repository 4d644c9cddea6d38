import type { EventEmitter } from "node:events";
import type { Command } from "commander";

/** The command line as data: the man page and each shell's completions are written from this. */

export interface CommandNode {
  /** Words after `overlay-ts`; none: the program itself. */
  readonly words: readonly string[];
  /** As typed, with its arguments: `network rm <name>`. */
  readonly usage: string;
  readonly description: string;
  readonly options: readonly OptionNode[];
  readonly children: readonly CommandNode[];
  /** What `--help` says after the options. */
  readonly more: string;
}

export interface OptionNode {
  /** As help shows it: `-o, --opt <name=value>`. */
  readonly flags: string;
  /** `-o`, `--opt`. */
  readonly names: readonly string[];
  readonly takesValue: boolean;
  /** Its value is a path. */
  readonly isPath: boolean;
  readonly description: string;
}

export function commandTree(command: Command, words: readonly string[] = []): CommandNode {
  const help = command.createHelp();
  const takes = command.registeredArguments.map((argument) =>
    argument.required ? `<${argument.name()}>` : `[${argument.name()}]`,
  );
  const options = help.visibleOptions(command).map((option) => ({
    flags: option.flags,
    names: [option.short, option.long].filter((name) => name !== undefined),
    takesValue: option.required || option.optional,
    isPath: /<(path|file|socket)>/.test(option.flags),
    description: help.optionDescription(option),
  }));
  return {
    words,
    usage: [...words, ...takes].join(" "),
    description: command.description(),
    options,
    children: command.commands.map((each) => commandTree(each, [...words, each.name()])),
    more: textAfterHelp(command),
  };
}

export function allCommands(node: CommandNode): CommandNode[] {
  return [node, ...node.children.flatMap(allCommands)];
}

/** Commander keeps it as a listener, which writes it. */
function textAfterHelp(command: Command): string {
  let said = "";
  const write = (text: string): void => void (said += text);
  (command as unknown as EventEmitter).emit("afterHelp", { error: false, command, write });
  return said.trim();
}
