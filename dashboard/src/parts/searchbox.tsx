// The search box, with the problems of the text below it. Enter, or leaving the box, applies the text.
import { useEffect, useRef, useState } from "preact/hooks";
import { parse } from "../lib/query";
import { useShortcuts } from "../lib/shortcuts";

export function SearchBox({ text, onText }: { text: string; onText: (text: string) => void }) {
  const input = useRef<HTMLInputElement>(null);
  const [typed, setTyped] = useState(text);
  useEffect(() => setTyped(text), [text]);
  useShortcuts({ "/": () => input.current?.select() });
  const problems = parse(typed).problems;
  const apply = (): void => {
    if (!problems.length && typed.trim() !== text) onText(typed.trim());
  };
  return (
    <form
      class="search"
      role="search"
      onSubmit={(submitted) => {
        submitted.preventDefault();
        if (!problems.length) input.current?.blur(); // blur applies the text, and enables the shortcuts again
      }}
    >
      <input
        ref={input}
        type="search"
        aria-label="Search events"
        aria-invalid={problems.length > 0}
        aria-describedby="search-problems"
        placeholder='Search: severity:error type:payment_failed details.user.id:42 "a phrase" -word'
        spellcheck={false}
        autocomplete="off"
        autocapitalize="off"
        value={typed}
        onInput={(change) => setTyped(change.currentTarget.value)}
        onBlur={apply}
        onSearch={(changed) => {
          if (!changed.currentTarget.value) onText(""); // the clear button of the box
        }}
        onKeyDown={(pressed) => {
          if (pressed.key === "Escape") input.current?.blur();
        }}
      />
      <div id="search-problems" class="problems" role="alert">
        {problems.map((problem) => (
          <p key={problem}>{problem}</p>
        ))}
      </div>
    </form>
  );
}
