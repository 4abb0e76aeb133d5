// Copies text to the clipboard. Without TLS, browsers offer only the deprecated `execCommand`.
export const CANNOT_COPY = "The browser does not allow copying to the clipboard.";

export async function copy(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    const isCopied = document.execCommand("copy");
    area.remove();
    return isCopied;
  }
}
