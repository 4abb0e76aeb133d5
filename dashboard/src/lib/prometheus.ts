// Parses the Prometheus text format into numbers by metric name and labels.
export interface Sample {
  labels: Readonly<Record<string, string>>;
  value: number;
}

export type Samples = ReadonlyMap<string, readonly Sample[]>;

const LINE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)/;
const LABEL = /([a-zA-Z_]\w*)="((?:\\.|[^"\\])*)"/g;

export function parse(text: string): Samples {
  const byName = new Map<string, Sample[]>();
  for (const line of text.split("\n")) {
    const [, name, labelText = "", value] = LINE.exec(line) ?? [];
    if (!name) continue;
    const labels = [...labelText.matchAll(LABEL)].map(([, label, text]) => [label!, text!] as const);
    const samples = byName.get(name) ?? [];
    samples.push({ labels: Object.fromEntries(labels), value: Number(value) });
    byName.set(name, samples);
  }
  return byName;
}

/** The sum of a metric over all labels that are not named; null if the metric is absent. */
export function sum(samples: Samples, name: string, labels: Readonly<Record<string, string>> = {}): number | null {
  const required = Object.entries(labels);
  const matching = samples.get(name)?.filter((each) => required.every(([label, text]) => each.labels[label] === text));
  return matching ? matching.reduce((total, each) => total + each.value, 0) : null;
}
