// Text with its search matches highlighted. The collector's offsets are in code points.
import type { Match } from "../api/types";

export function Marked({ text, matches, at }: { text: string; matches: readonly Match[] | undefined; at: string }) {
  const here = matches?.filter((match) => match.at === at).sort((one, other) => one.start - other.start) ?? [];
  if (!here.length) return <>{text}</>;
  const points = [...text];
  let end = 0;
  const parts = here.map((match) => {
    const before = points.slice(end, match.start).join("");
    end = match.end;
    return [before, points.slice(match.start, match.end).join("")] as const;
  });
  return (
    <>
      {parts.map(([before, word], index) => (
        <span key={index}>
          {before}
          <mark>{word}</mark>
        </span>
      ))}
      {points.slice(end).join("")}
    </>
  );
}
