// JSON as a tree. Closed branches are not in the document, and of a long array only the first items are.
import { useState } from "preact/hooks";
import type { Match } from "../api/types";
import { formatted } from "../lib/format";
import { asText, Exact, type Json } from "../lib/json";
import { detailsField } from "../lib/query";
import { Marked } from "./marked";

const FIRST_ITEMS = 100;
const FIRST_CHARACTERS = 10_000;
const OPEN_DEPTH = 2;
const LONG_CHARACTERS = 60; // such a value does not fit beside its name

type Path = readonly (string | number)[];

export interface TreeActions {
  /** The matches of the search, which are highlighted. */
  matches: readonly Match[] | undefined;
  onFilter: (field: string, value: string) => void;
  onColumn: (field: string) => void;
}

export function JsonTree({ value, ...actions }: { value: Json } & TreeActions) {
  return <Children value={value} path={[]} {...actions} />;
}

function Children({ value, path, ...actions }: { value: Json; path: Path } & TreeActions) {
  const [limit, setLimit] = useState(FIRST_ITEMS);
  const entries: [string | number, Json][] = Array.isArray(value)
    ? [...value.entries()]
    : Object.entries(value as { [key: string]: Json });
  return (
    <ul class="tree">
      {entries.slice(0, limit).map(([key, each]) => (
        <Node key={key} name={key} value={each} path={[...path, key]} {...actions} />
      ))}
      {entries.length > limit && (
        <li>
          <button type="button" onClick={() => setLimit(limit + 10 * FIRST_ITEMS)}>
            Show more ({formatted(entries.length - limit)})
          </button>
        </li>
      )}
    </ul>
  );
}

type NodeProps = { name: string | number; value: Json; path: Path } & TreeActions;

function Node({ name, value, path, ...actions }: NodeProps) {
  const isBranch = value !== null && typeof value === "object" && !(value instanceof Exact);
  const size = isBranch ? Object.keys(value).length : 0;
  const [isOpen, setOpen] = useState(path.length < OPEN_DEPTH && size <= FIRST_ITEMS);
  if (!isBranch) return <Leaf name={name} value={value} path={path} {...actions} />;
  return (
    <li>
      <button type="button" class="branch" aria-expanded={isOpen} onClick={() => setOpen(!isOpen)}>
        <span class="key">{name}</span> <span class="dim">{Array.isArray(value) ? `[${size}]` : `{${size}}`}</span>
      </button>
      {isOpen && size > 0 && <Children value={value} path={path} {...actions} />}
    </li>
  );
}

function Leaf({ name, value, path, matches, onFilter, onColumn }: NodeProps) {
  const field = detailsField(path);
  const text = asText(value) ?? "";
  const [isWhole, setWhole] = useState(text.length <= FIRST_CHARACTERS);
  return (
    <li class={`leaf${text.length > LONG_CHARACTERS || text.includes("\n") ? " long" : ""}`}>
      <span class="key">{name}</span>
      <span class={`value ${kindOf(value)}`}>
        <Marked text={isWhole ? text : text.slice(0, FIRST_CHARACTERS)} matches={matches} at={pointer(path)} />
        {!isWhole && (
          <button type="button" onClick={() => setWhole(true)}>
            Show all {formatted(text.length)} characters
          </button>
        )}
      </span>
      <span class="actions">
        <Action label={`Filter by ${field}`} onClick={() => onFilter(field, text)}>
          Filter
        </Action>
        <Action label={`Add column ${field}`} onClick={() => onColumn(field)}>
          Add column
        </Action>
      </span>
    </li>
  );
}

function Action({ label, onClick, children }: { label: string; onClick: () => void; children: string }) {
  return (
    <button type="button" title={label} aria-label={label} onClick={onClick}>
      {children}
    </button>
  );
}

/** Return the path as a JSON pointer into the event (RFC 6901). */
function pointer(path: Path): string {
  return ["/details", ...path.map((key) => String(key).replaceAll("~", "~0").replaceAll("/", "~1"))].join("/");
}

function kindOf(value: Json): string {
  return value instanceof Exact ? "number" : value === null ? "null" : typeof value;
}
