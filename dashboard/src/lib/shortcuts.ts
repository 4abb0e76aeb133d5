// Keyboard shortcuts: one listener for each component that has commands. Keys typed into a field are not commands.
import { useEffect, useRef } from "preact/hooks";

/** The shortcuts as the help lists them: keys that do the same, and what they do. */
export const SHORTCUTS: readonly (readonly [keys: readonly string[], action: string])[] = [
  [["/"], "Go to the search box"],
  [["j", "↓"], "Select the next event"],
  [["k", "↑"], "Select the previous event"],
  [["Enter"], "Open the selected event"],
  [["Esc"], "Close the event, or leave the search box"],
  [["p"], "Pause or resume live updates"],
  [["?"], "Show this help"],
];

type Commands = Readonly<Record<string, (pressed: KeyboardEvent) => void>>;

export function useShortcuts(commands: Commands): void {
  const latest = useRef(commands);
  latest.current = commands;
  useEffect(() => {
    const onKeyDown = (pressed: KeyboardEvent): void => {
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
    addEventListener("keydown", onKeyDown);
    return () => removeEventListener("keydown", onKeyDown);
  }, []);
}
