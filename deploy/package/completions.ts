import { allCommands, type CommandNode, type OptionNode } from "./command-tree.ts";

/** Completions of subcommands and options; of a value that is a path, files. */

const key = ({ words }: CommandNode): string => words.join(" ");
const childNames = ({ children }: CommandNode): string[] =>
  children.map(({ words }) => words.at(-1) ?? "");
const optionNames = (options: readonly OptionNode[]): string[] =>
  options.flatMap(({ names }) => names);

/** A word counts to the command while the tree has it there: others are arguments and options' values. */
export function bash(program: CommandNode): string {
  const commands = allCommands(program);
  const withValues = new Set(
    optionNames(commands.flatMap(({ options }) => options.filter(({ takesValue }) => takesValue))),
  );
  const paths = optionNames(
    commands.flatMap(({ options }) => options.filter(({ isPath }) => isPath)),
  );
  const cases = commands.map(
    (node) =>
      `    '${key(node)}') children='${childNames(node).join(" ")}' options='${optionNames(node.options).join(" ")}' ;;`,
  );
  return `# bash completion for overlay-ts
_overlay_ts_words() {
  case $1 in
${cases.join("\n")}
    *) return 1 ;;
  esac
}

_overlay_ts() {
  local current=\${COMP_WORDS[COMP_CWORD]} previous=\${COMP_WORDS[COMP_CWORD - 1]}
  local children options command='' word index next
  COMPREPLY=()
  case $previous in
    ${[...new Set(paths)].join(" | ")})
      mapfile -t COMPREPLY < <(compgen -f -- "$current")
      return
      ;;
    ${[...withValues].filter((name) => !paths.includes(name)).join(" | ")}) return ;;
  esac
  for ((index = 1; index < COMP_CWORD; index++)); do
    word=\${COMP_WORDS[index]}
    next=\${command:+$command }$word
    _overlay_ts_words "$next" && command=$next
  done
  _overlay_ts_words "$command"
  case $current in
    -*) mapfile -t COMPREPLY < <(compgen -W "$options" -- "$current") ;;
    *) mapfile -t COMPREPLY < <(compgen -W "$children" -- "$current") ;;
  esac
}
complete -F _overlay_ts overlay-ts
`;
}

/** A function for each command, which completes what stands after it. */
export function zsh(program: CommandNode): string {
  const name = ({ words }: CommandNode): string =>
    ["_overlay_ts", ...words.map((word) => word.replaceAll("-", "_"))].join("_");
  const functions = allCommands(program).map((node) => {
    const specs = node.options.map((each) => zshOption(each));
    if (node.children.length === 0)
      return `${name(node)}() {\n  _arguments -s ${[...specs, "'*:argument:_files'"].join(" \\\n    ")}\n}`;
    const described = node.children.map(
      (child) => `    '${child.words.at(-1)}:${zshText(child.description)}'`,
    );
    const cases = node.children.map((child) => `    ${child.words.at(-1)}) ${name(child)} ;;`);
    return `${name(node)}() {
  local -a commands=(
${described.join("\n")}
  )
  local curcontext=$curcontext state line
  _arguments -s -C ${[...specs, "'1: :->command'", "'*:: :->arguments'"].join(" \\\n    ")}
  case $state in
    command) _describe command commands ;;
    arguments) case $words[1] in
${cases.join("\n")}
    esac ;;
  esac
}`;
  });
  return `#compdef overlay-ts\n${functions.join("\n\n")}\n\n_overlay_ts "$@"\n`;
}

function zshOption({ names, takesValue, isPath, description }: OptionNode): string {
  const value = takesValue ? `:value:${isPath ? "_files" : ""}` : "";
  const text = `[${zshText(description)}]${value}`;
  return names.map((name) => `'${name}${text}'`).join(" ");
}

/** Within single quotes, where `_arguments` and `_describe` read brackets and colons. */
const zshText = (text: string): string =>
  text.replaceAll(/[[\]:\\]/g, "\\$&").replaceAll("'", String.raw`'\''`);

export function fish(program: CommandNode): string {
  const lines = allCommands(program).flatMap((node) => {
    // Here: all of its words were typed, and none of its children's.
    const seen = node.words.map((word) => `__fish_seen_subcommand_from ${word}`);
    const children = childNames(node);
    const none =
      children.length === 0 ? [] : [`not __fish_seen_subcommand_from ${children.join(" ")}`];
    const here = [...seen, ...none].join("; and ");
    const start = `complete -c overlay-ts -f -n ${fishText(here)}`;
    return [
      ...node.children.map(
        (child) => `${start} -a ${child.words.at(-1)} -d ${fishText(child.description)}`,
      ),
      ...node.options.map((option) => fishOption(seen, option)),
    ];
  });
  return `# fish completion for overlay-ts\ncomplete -c overlay-ts -f\n${lines.join("\n")}\n`;
}

function fishOption(seen: readonly string[], option: OptionNode): string {
  const names = option.names.map((name) =>
    name.startsWith("--") ? `-l ${name.slice(2)}` : `-s ${name.slice(1)}`,
  );
  const value = option.takesValue ? (option.isPath ? " -r -F" : " -x") : "";
  const when = seen.length === 0 ? "" : ` -n ${fishText(seen.join("; and "))}`;
  return `complete -c overlay-ts${when} ${names.join(" ")}${value} -d ${fishText(option.description)}`;
}

const fishText = (text: string): string =>
  `'${text.replaceAll("\\", "\\\\").replaceAll("'", "\\'")}'`;
