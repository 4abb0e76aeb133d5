// Reads Prometheus' text format: numbers by name and labels.
export interface Sample {
  labels: Readonly<Record<string, string>>;
  value: number;
}

export type Samples = ReadonlyMap<string, readonly Sample[]>;

const LINE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)/;
const LABEL = /([a-zA-Z_]\w*)="((?:\\.|[^"\\])*)"/g;

export function parse(text: string): Samples {
  const found = new Map<string, Sample[]>();
  for (const line of text.split("\n")) {
    const [, name, labels = "", value] = LINE.exec(line) ?? [];
    if (!name) continue;
    const named = [...labels.matchAll(LABEL)].map(([, key, label]) => [key!, label!] as const);
    const samples = found.get(name) ?? [];
    samples.push({ labels: Object.fromEntries(named), value: Number(value) });
    found.set(name, samples);
  }
  return found;
}

/** The sum of a metric over the labels that are not asked for; null if it is not there. */
export function sum(samples: Samples, name: string, labels: Readonly<Record<string, string>> = {}): number | null {
  const wanted = Object.entries(labels);
  const fitting = samples.get(name)?.filter((each) => wanted.every(([key, value]) => each.labels[key] === value));
  return fitting ? fitting.reduce((total, each) => total + each.value, 0) : null;
}
