// Which columns the list has.
import { useState } from "preact/hooks";
import { COLUMNS, titleOf } from "../lib/columns";
import { DEFAULT_COLUMNS } from "../lib/view";
import { Menu } from "./menu";

interface Props {
  columns: readonly string[];
  onColumns: (columns: readonly string[]) => void;
}

export function ColumnMenu({ columns, onColumns }: Props) {
  const [path, setPath] = useState("");
  const known = [...Object.keys(COLUMNS), ...columns.filter((column) => !(column in COLUMNS))];
  const toggle = (name: string): void => {
    const kept = columns.includes(name) ? columns.filter((column) => column !== name) : inOrder([...columns, name]);
    if (kept.length) onColumns(kept);
  };
  const add = (submitted: Event): void => {
    submitted.preventDefault();
    const name = path.startsWith("details.") ? path : `details.${path}`;
    if (path && !columns.includes(name)) onColumns(inOrder([...columns, name]));
    setPath("");
  };
  return (
    <Menu title="Columns">
      {known.map((name) => (
        <label key={name}>
          <input type="checkbox" checked={columns.includes(name)} onChange={() => toggle(name)} /> {titleOf(name)}
        </label>
      ))}
      <form onSubmit={add}>
        <input
          aria-label="Path into the details"
          placeholder="details.user.id"
          value={path}
          onInput={(typed) => setPath(typed.currentTarget.value.trim())}
        />
        <button type="submit">Add</button>
      </form>
      <button type="button" onClick={() => onColumns(DEFAULT_COLUMNS)}>
        Reset
      </button>
    </Menu>
  );
}

/** Known columns in their usual order, values of the details before the message, which takes what room is left. */
export function inOrder(columns: readonly string[]): string[] {
  const usual = Object.keys(COLUMNS);
  const rank = (column: string): number => {
    const place = usual.indexOf(column);
    return place < 0 ? usual.indexOf("message") - 0.5 : place;
  };
  return [...columns].sort((one, other) => rank(one) - rank(other));
}
