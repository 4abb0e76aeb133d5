// Puts text on the clipboard; a page without TLS has only the old way.
export const NO_CLIPBOARD = "The browser lets no page write to the clipboard.";

export async function copy(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}
