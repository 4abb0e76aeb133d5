// Colours of charts, out of the style sheet: a canvas does not see the variables of CSS.
const SERIES = 8;

function variable(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

export function palette(): { dim: string; line: string } {
  return { dim: variable("--dim"), line: variable("--line") };
}

/** The variable with the colour of a value: a severity has its own; others take one after another. */
export function colourName(name: string, index: number): string {
  return /^(info|warning|error|critical|other)$/.test(name) ? `--bar-${name}` : `--bar-${index % SERIES}`;
}

export function colourOf(name: string, index: number): string {
  return variable(colourName(name, index));
}
