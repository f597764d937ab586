/** The history as a CSV file (RFC 4180), every column at full precision, names as in `metrics.jsonl`. */
import type { HistoryPoint } from './history-columns.ts';

const columns = [
  'step',
  'loss',
  'validationLoss',
  'gradNorm',
  'lr',
  'ms',
  'tokens',
  'bytesDown',
  'bytesUp',
  'replicaHash',
] as const satisfies readonly (keyof HistoryPoint)[];

/** One line per committed step; what wasn't measured at a step is empty. */
export function historyToCsv(history: readonly HistoryPoint[]): string {
  const lines = [[...columns, 'change'].join(',')];
  for (const point of history) lines.push([...columns.map((column) => point[column] ?? ''), quoted(point.change)].join(','));
  return `${lines.join('\r\n')}\r\n`;
}

/** What the owner wanted from this step on, as JSON; it holds a name, which may hold anything. */
function quoted(change: HistoryPoint['change']): string {
  return change === undefined ? '' : `"${JSON.stringify(change).replaceAll('"', '""')}"`;
}

/** "The White Whale, again" → "the-white-whale-again-loss.csv". */
export function csvFileName(title: string): string {
  const slug = title
    .toLowerCase()
    .normalize('NFKD')
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^-+|-+$/g, '');
  return `${slug === '' ? 'run' : slug}-loss.csv`;
}
