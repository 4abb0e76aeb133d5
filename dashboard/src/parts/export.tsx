// Links that download all matching events as a file.
import { type Params, urlOf } from "../api/client";
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
          href={urlOf("api/events/export", [...filter, ...rangeParams(range), ["format", format]])}
        >
          {title}
        </a>
      ))}
    </Menu>
  );
}
