// The keys of the page: one listener, and those who listen. What is typed into a field is no command.
import { useEffect, useRef } from "preact/hooks";

export const KEYS: readonly (readonly [key: string, what: string])[] = [
  ["/", "Search"],
  ["j", "Next event"],
  ["k", "Event before"],
  ["Enter", "Open the event"],
  ["Esc", "Close what is open; leave the search"],
  ["p", "Pause or go on"],
  ["?", "This help"],
];

type Commands = Readonly<Record<string, (pressed: KeyboardEvent) => void>>;

export function useKeys(commands: Commands): void {
  const latest = useRef(commands);
  latest.current = commands;
  useEffect(() => {
    const listen = (pressed: KeyboardEvent): void => {
      if (pressed.ctrlKey || pressed.metaKey || pressed.altKey || pressed.defaultPrevented) return;
      const target = pressed.target as HTMLElement;
      if (pressed.key !== "Escape" && target.closest("input, textarea, select, [contenteditable]")) return;
      if (pressed.key === "Enter" && target.closest("button, a, summary")) return;
      if (target.closest("dialog")) return;
      const command = latest.current[pressed.key];
      if (!command) return;
      pressed.preventDefault();
      command(pressed);
    };
    addEventListener("keydown", listen);
    return () => removeEventListener("keydown", listen);
  }, []);
}
