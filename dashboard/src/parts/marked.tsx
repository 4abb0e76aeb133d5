// Text with the words that a search found in it. The collector counts in code points.
import type { Match } from "../api/types";

export function Marked({ text, matches, at }: { text: string; matches: readonly Match[] | undefined; at: string }) {
  const found = matches?.filter((match) => match.at === at).sort((one, other) => one.start - other.start) ?? [];
  if (!found.length) return <>{text}</>;
  const points = [...text];
  let end = 0;
  const parts = found.map((match) => {
    const before = points.slice(end, match.start).join("");
    end = match.end;
    return [before, points.slice(match.start, match.end).join("")] as const;
  });
  return (
    <>
      {parts.map(([before, word], place) => (
        <span key={place}>
          {before}
          <mark>{word}</mark>
        </span>
      ))}
      {points.slice(end).join("")}
    </>
  );
}
