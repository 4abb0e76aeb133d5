// Colours of charts, read from the style sheet: a canvas cannot use CSS variables.
const SERIES_COLOURS = 10; // as many as the API returns series

function variable(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

export function palette(): { dim: string; line: string } {
  return { dim: variable("--dim"), line: variable("--line") };
}

/** Return the variable with the colour of a value: each severity has its own, other values take the next one. */
export function colourName(name: string, index: number): string {
  return /^(info|warning|error|critical|other)$/.test(name) ? `--bar-${name}` : `--bar-${index % SERIES_COLOURS}`;
}

export function colourOf(name: string, index: number): string {
  return variable(colourName(name, index));
}
