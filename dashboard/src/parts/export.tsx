// Links to all events of the filter as a file.
import { address, type Params } from "../api/client";
import { rangeParams, type Range } from "../lib/time";
import { Menu } from "./menu";

const FORMATS: readonly (readonly [format: string, title: string])[] = [
  ["ndjson", "NDJSON"],
  ["json", "JSON"],
  ["csv", "CSV"],
];

export function Export({ filter, range }: { filter: Params; range: Range }) {
  return (
    <Menu title="Export">
      {FORMATS.map(([format, title]) => (
        <a
          key={format}
          download={`events.${format}`}
          href={address("api/events/export", [...filter, ...rangeParams(range), ["format", format]])}
        >
          {title}
        </a>
      ))}
    </Menu>
  );
}
