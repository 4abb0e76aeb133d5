// A menu that a button opens. Esc or a click outside closes it.
import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";

export function Menu({ title, children }: { title: string; children: ComponentChildren }) {
  const menu = useRef<HTMLDetailsElement>(null);
  useEffect(() => {
    const closeOutside = (pressed: Event): void => {
      if (!menu.current!.contains(pressed.target as Node)) menu.current!.open = false;
    };
    addEventListener("pointerdown", closeOutside);
    return () => removeEventListener("pointerdown", closeOutside);
  }, []);
  const closeOnEscape = (pressed: KeyboardEvent): void => {
    if (pressed.key !== "Escape" || !menu.current!.open) return;
    menu.current!.open = false;
    menu.current!.querySelector("summary")!.focus();
    pressed.stopPropagation();
  };
  return (
    <details ref={menu} class="menu" onKeyDown={closeOnEscape}>
      <summary>{title}</summary>
      <div class="panel">{children}</div>
    </details>
  );
}
