import { expect, test } from "vitest";
import { program } from "../../../agent/cli/main.ts";
import { allCommands, commandTree } from "../../../deploy/package/command-tree.ts";
import { bash, fish, zsh } from "../../../deploy/package/completions.ts";
import { manPage } from "../../../deploy/package/man-page.ts";

/** What the package says of the command line is made of the command line: nothing of it is left out. */

const tree = commandTree(program);
const commands = allCommands(tree);
// As a reader sees it: roff's hyphens and backslashes.
const page = manPage(tree, "1.2.3", "2026-01-02")
  .replaceAll("\\-", "-")
  .replaceAll("\\e", "\\")
  .split("\n");

/** From a line of the text on, to the next that begins like it. */
function section(text: string, start: string, end: RegExp): string {
  const from = text.indexOf(start);
  expect(from, start).toBeGreaterThanOrEqual(0);
  const rest = text.slice(from + start.length);
  const to = rest.search(end);
  return to < 0 ? rest : rest.slice(0, to);
}

test("there are commands below commands, options with values, texts after the help", () => {
  expect(commands.find(({ words }) => words.join(" ") === "network create")).toMatchObject({
    usage: "network create <name>",
    options: expect.arrayContaining([
      expect.objectContaining({ names: ["-o", "--opt"], takesValue: true, isPath: false }),
    ]),
  });
  expect(commands.filter(({ more }) => more !== "").length).toBeGreaterThan(3);
  expect(commands.some(({ options }) => options.some(({ isPath }) => isPath))).toBe(true);
});

test("the man page has each command with its options and what its help says", () => {
  for (const { words, usage, children, options, more } of commands) {
    if (words.length === 0 || (children.length > 0 && options.length === 1)) continue;
    const at = page.indexOf(`overlay-ts ${usage}`);
    expect(at, usage).toBeGreaterThan(0);
    const length = page.slice(at).findIndex((line) => /^\.S[HS]/.test(line));
    const of = page.slice(at, at + length);
    for (const { flags, names } of options)
      if (!names.includes("--help")) expect(of).toContain(`\\fB${flags}\\fR`);
    for (const line of more.split("\n")) expect(of.join("\n")).toContain(line);
  }
});

test("no line of a text is a request of roff's", () => {
  const made = manPage(
    { ...tree, children: [{ ...tree, words: ["x"], more: ".so x\n'y\\z" }] },
    "1",
    "d",
  );
  expect(made).toContain("\\&.so x\n\\&'y\\ez");
});

test("bash, zsh and fish complete each command and each of its options", () => {
  const scripts = { bash: bash(tree), zsh: zsh(tree), fish: fish(tree) };
  for (const { words, children, options } of commands) {
    const name = words.join(" ");
    const inBash = section(scripts.bash, `'${name}')`, /;;/).split(/[ ']+/);
    const zshName = ["_overlay_ts", ...words].join("_");
    const inZsh = section(scripts.zsh, `${zshName}() {`, /^}/m);
    for (const child of children.map((each) => each.words.at(-1) ?? "")) {
      expect(inBash).toContain(child);
      expect(inZsh).toMatch(new RegExp(`^ +${child}\\) ${zshName}_${child} ;;$`, "m"));
      expect(scripts.fish).toContain(` -a ${child} `);
    }
    for (const option of options.flatMap(({ names }) => names)) {
      expect(inBash).toContain(option);
      expect(inZsh).toContain(`'${option}[`);
      const seen = words.map((word) => `__fish_seen_subcommand_from ${word}`).join("; and ");
      const flag = option.startsWith("--") ? `-l ${option.slice(2)}` : `-s ${option.slice(1)}`;
      const lines = scripts.fish.split("\n").filter((line) => line.includes(` ${flag} `));
      expect(
        lines.some((line) => (seen === "" ? !line.includes(" -n ") : line.includes(`'${seen}'`))),
        `${name} ${option}`,
      ).toBe(true);
    }
  }
});
