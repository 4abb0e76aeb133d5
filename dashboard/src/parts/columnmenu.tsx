// Chooses the columns of the list.
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
    const changed = columns.includes(name)
      ? columns.filter((column) => column !== name)
      : inOrder([...columns, name]);
    if (changed.length) onColumns(changed);
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
        Reset columns
      </button>
    </Menu>
  );
}

/** Sort columns: the fields in their default order, details before the message, which takes the remaining width. */
export function inOrder(columns: readonly string[]): string[] {
  const fields = Object.keys(COLUMNS);
  const rank = (column: string): number => {
    const index = fields.indexOf(column);
    return index < 0 ? fields.indexOf("message") - 0.5 : index;
  };
  return [...columns].sort((one, other) => rank(one) - rank(other));
}
