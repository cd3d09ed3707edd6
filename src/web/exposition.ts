/**
 * The text in which Prometheus reads metrics
 * (https://github.com/prometheus/docs/blob/main/docs/instrumenting/exposition_formats.md, "Text-based format").
 */

/** One value with its labels in the order in which they print. */
export type Sample = readonly [labels: Readonly<Record<string, string>>, value: number];

export interface Metric {
  readonly name: string;
  /** One sentence. */
  readonly help: string;
  readonly type: 'counter' | 'gauge';
  /** Reads the samples at the moment of the request: no two with the same labels. */
  readonly read: () => Iterable<Sample> | Promise<Iterable<Sample>>;
}

export const METRICS_CONTENT_TYPE = 'text/plain; version=0.0.4; charset=utf-8';

/** All metrics with their samples, in the order in which they are given. Rejects with what a `read` rejects with. */
export async function exposition(metrics: readonly Metric[]): Promise<string> {
  const texts = await Promise.all(metrics.map(metricText));
  return `${texts.join('\n\n')}\n`;
}

async function metricText({ name, help, type, read }: Metric): Promise<string> {
  const lines = [`# HELP ${name} ${escape(help, /[\\\n]/g)}`, `# TYPE ${name} ${type}`];
  for (const [labels, value] of await read()) lines.push(`${name}${labelText(labels)} ${valueText(value)}`);
  return lines.join('\n');
}

function labelText(labels: Sample[0]): string {
  const pairs = Object.entries(labels).map(([label, value]) => `${label}="${escape(value, /[\\\n"]/g)}"`);
  return pairs.length === 0 ? '' : `{${pairs.join(',')}}`;
}

function escape(text: string, special: RegExp): string {
  return text.replace(special, (character) => (character === '\n' ? '\\n' : `\\${character}`));
}

/** JavaScript's numbers are also Prometheus's, but for the infinite ones. */
function valueText(value: number): string {
  if (value === Infinity) return '+Inf';
  return value === -Infinity ? '-Inf' : String(value);
}
