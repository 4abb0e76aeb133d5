// Links to all events of the filter as a file.
import { address, type Params } from "../api/client";
import { rangeParams, type Range } from "../lib/time";

const FORMATS: readonly (readonly [format: string, title: string])[] = [
  ["ndjson", "NDJSON"],
  ["json", "JSON"],
  ["csv", "CSV"],
];

export function Export({ filter, range }: { filter: Params; range: Range }) {
  return (
    <details class="menu">
      <summary>Export</summary>
      <div class="panel">
        {FORMATS.map(([format, title]) => (
          <a
            key={format}
            download={`events.${format}`}
            href={address("api/events/export", [...filter, ...rangeParams(range), ["format", format]])}
          >
            {title}
          </a>
        ))}
      </div>
    </details>
  );
}
