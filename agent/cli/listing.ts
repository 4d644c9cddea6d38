import { OverlayError } from "../../shared/errors.ts";
import type { Context } from "./context.ts";
import { table } from "./output.ts";

/** What all commands that list things have in common, as docker and kubectl have it: -q, --format, --filter, --json. */

export interface ListOptions {
  readonly quiet?: boolean;
  readonly format?: string;
  readonly filter?: readonly string[];
}

export interface OfNetworkOptions extends ListOptions {
  readonly network?: string;
}

/** Heading, and what the row has below it. */
export type Columns<Row> = Readonly<Record<string, (row: Row) => string>>;

export interface Listing<Row> {
  readonly rows: readonly Row[];
  readonly columns: Columns<Row>;
  /** The heading of what other commands take; -q prints it. */
  readonly id: string;
  /** What --json prints of the rows that are left. */
  readonly json: (rows: readonly Row[]) => unknown;
  /** For people, below the table. */
  readonly beside?: (rows: readonly Row[]) => readonly string[];
}

/** @throws INVALID: a field that is none */
export function list<Row>(context: Context, listing: Listing<Row>, options: ListOptions): void {
  const text = listed(listing, options, context.json === true);
  // Nothing is no line, so that who counts lines counts none.
  if (text !== "") process.stdout.write(`${text}\n`);
}

export function listed<Row>(listing: Listing<Row>, options: ListOptions, json: boolean): string {
  const { columns, id, beside } = listing;
  const fields = fieldsOf(columns);
  const rows = listing.rows.filter(passes(fields, options.filter ?? []));
  const cell = (row: Row, field: string): string => fieldNamed(fields, field)(row);
  if (options.quiet === true) return [...new Set(rows.map((row) => cell(row, id)))].join("\n");
  if (options.format !== undefined && options.format !== "json")
    return rows.map(template(fields, options.format)).join("\n");
  if (options.format === "json") return rows.map((row) => oneJson(fields, row)).join("\n");
  if (json) return JSON.stringify(listing.json(rows), undefined, 2);
  const heads = Object.keys(columns);
  const cells = rows.map((row) => Object.values(columns).map((of) => of(row)));
  return [table(heads, cells), ...(beside?.(rows) ?? [])].join("\n");
}

/** Of `NAME` and `--network NAME`, which are the same. @throws INVALID */
export function oneNetwork(
  given: string | undefined,
  option: string | undefined,
): string | undefined {
  if (given === undefined || option === undefined || given === option) return given ?? option;
  throw new OverlayError({
    code: "INVALID",
    message: `two networks are given: ${given} and --network ${option}`,
    next: "give one of them",
  });
}

type Fields<Row> = ReadonlyMap<string, (row: Row) => string>;

/** `DATA PATH` is the field `DataPath`. */
function fieldsOf<Row>(columns: Columns<Row>): Fields<Row> {
  const named = (head: string): string =>
    head
      .split(" ")
      .map((word) => `${word.slice(0, 1)}${word.slice(1).toLowerCase()}`)
      .join("");
  return new Map(Object.entries(columns).map(([head, of]) => [named(head), of]));
}

function fieldNamed<Row>(fields: Fields<Row>, name: string): (row: Row) => string {
  const plain = name.replaceAll(" ", "").toLowerCase();
  for (const [field, of] of fields) if (field.toLowerCase() === plain) return of;
  throw new OverlayError({
    code: "INVALID",
    message: `no field ${name} is listed here`,
    next: `the fields are ${[...fields.keys()].join(", ")}`,
  });
}

function oneJson<Row>(fields: Fields<Row>, row: Row): string {
  return JSON.stringify(Object.fromEntries([...fields].map(([field, of]) => [field, of(row)])));
}

/** The part of Go's templates that people type: fields, and `{{json .}}`. */
function template<Row>(fields: Fields<Row>, format: string): (row: Row) => string {
  const text = format.replaceAll("\\t", "\t").replaceAll("\\n", "\n");
  // Said also where no row is there to fill it.
  const parts = text.split(/(\{\{.*?\}\})/).map((part): ((row: Row) => string) => {
    const inside = /^\{\{\s*(.*?)\s*\}\}$/.exec(part)?.[1];
    if (inside === undefined) return () => part;
    if (inside === "json .") return (row) => oneJson(fields, row);
    return fieldNamed(fields, inside.replace(/^\./, ""));
  });
  return (row) => parts.map((part) => part(row)).join("");
}

/** As docker: several values of one field mean either, several fields mean all. */
function passes<Row>(fields: Fields<Row>, filters: readonly string[]): (row: Row) => boolean {
  const wanted = Map.groupBy(filters.map(pair), ([name]) => name.toLowerCase());
  const tests = [...wanted.values()].map((pairs) => {
    const of = fieldNamed(fields, pairs[0]?.[0] ?? "");
    const values = new Set(pairs.map(([, value]) => value.toLowerCase()));
    return (row: Row): boolean => {
      const cell = of(row).toLowerCase();
      return [cell, ...cell.split(/,\s*/)].some((each) => values.has(each));
    };
  });
  return (row) => tests.every((test) => test(row));
}

function pair(text: string): [string, string] {
  const at = text.indexOf("=");
  if (at > 0) return [text.slice(0, at), text.slice(at + 1)];
  throw new OverlayError({
    code: "INVALID",
    message: `--filter ${text} is not field=value`,
    next: "write it as --filter name=web",
  });
}
