/** A soak's figures as tables: what happened, what the pages and the server held over time, and how the losses compare. */
import { median } from '../benchmark.ts';
import type { Table } from '../benchmark.ts';
import type { Ledger } from './ledger.ts';
import type { Trouble } from './trouble.ts';
import type { PageSample, Sample } from './vitals.ts';

/** Rows of the table over time; the growth is computed from all samples. */
const shownSamples = 13;
/** Before that caches fill and code is compiled. */
const warmUpShare = 0.2;
/** A younger page has not settled. */
const settledMinutes = 1;

const seconds = (ms: number): string => (ms / 1000).toFixed(1);

export function troubleTable(troubles: readonly Trouble[]): Table {
  const kinds = [...new Set(troubles.map(({ kind }) => kind))].sort();
  return {
    title: 'What befell the room',
    notes: ['until the observer saw the next step, which another one leads where the leader went; a joiner counts from its launch'],
    columns: ['', 'times', 'median s', 'worst s'],
    rows: kinds.map((kind) => {
      const waits = troubles.filter((trouble) => trouble.kind === kind).map(({ nextStepMs }) => nextStepMs);
      return [kind, String(waits.length), seconds(median(waits)), seconds(Math.max(...waits))];
    }),
  };
}

interface Gauge {
  readonly name: string;
  readonly digits: number;
  /** NaN where there was nothing to read it from. */
  readonly of: (sample: Sample) => number;
}

function ofWorkers(read: (page: PageSample) => number): Gauge['of'] {
  return ({ workers }) => median(workers.filter(({ ageMinutes }) => ageMinutes >= settledMinutes).map(read));
}

const gauges: readonly Gauge[] = [
  { name: 'observer heap MiB', digits: 2, of: ({ observer }) => observer.vitals.heapMiB },
  { name: 'nodes', digits: 0, of: ({ observer }) => observer.vitals.nodes },
  { name: 'listeners', digits: 0, of: ({ observer }) => observer.vitals.listeners },
  { name: 'connections', digits: 0, of: ({ observer }) => observer.vitals.connections },
  { name: 'channels', digits: 0, of: ({ observer }) => observer.vitals.channels },
  { name: 'closed, held', digits: 0, of: ({ observer }) => observer.vitals.closedButHeld },
  { name: 'resident MiB', digits: 0, of: ({ observer }) => observer.vitals.residentMiB },
  { name: 'workers heap MiB', digits: 2, of: ofWorkers(({ vitals }) => vitals.heapMiB) },
  { name: 'nodes', digits: 0, of: ofWorkers(({ vitals }) => vitals.nodes) },
  { name: 'connections', digits: 1, of: ofWorkers(({ vitals }) => vitals.connections) },
  { name: 'closed, held', digits: 1, of: ofWorkers(({ vitals }) => vitals.closedButHeld) },
  { name: 'resident MiB', digits: 0, of: ofWorkers(({ vitals }) => vitals.residentMiB) },
  { name: 'server resident MiB', digits: 1, of: ({ server }) => server.residentMiB },
  { name: 'descriptors', digits: 0, of: ({ server }) => server.descriptors },
];

const shown = (value: number, digits: number): string => (Number.isNaN(value) ? '' : value.toFixed(digits));

/** By least squares; NaN for fewer than three points. */
function growthPerMinute(samples: readonly Sample[], of: Gauge['of']): number {
  const points = samples.map((sample) => ({ x: sample.minute, y: of(sample) })).filter(({ y }) => !Number.isNaN(y));
  if (points.length < 3) return Number.NaN;
  const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;
  const [meanX, meanY] = [mean(points.map(({ x }) => x)), mean(points.map(({ y }) => y))];
  const covariance = mean(points.map(({ x, y }) => (x - meanX) * (y - meanY)));
  return covariance / mean(points.map(({ x }) => (x - meanX) ** 2));
}

export function sampleTables(samples: readonly Sample[]): readonly Table[] {
  const last = samples.length - 1;
  const rowCount = Math.min(shownSamples, samples.length);
  const chosen = Array.from({ length: rowCount }, (_, row) => samples[rowCount === 1 ? 0 : Math.round((row * last) / (rowCount - 1))]).filter((sample) => sample !== undefined);
  const warm = samples.filter(({ minute }) => minute >= warmUpShare * (samples[last]?.minute ?? 0));
  const [first, final] = [warm[0], warm.at(-1)];
  const stepsPerHour = first === undefined || final === undefined ? Number.NaN : (60 * (final.step - first.step)) / (final.minute - first.minute);
  return [
    {
      title: 'What pages and server held',
      notes: [
        'heaps after a collection; resident: all processes of the browser, shared memory counted several times; workers: median of those there for a minute',
        'a history grows by a point with each step, so heaps do, too; “growth an hour” is a line through what came after the first fifth of the time',
      ],
      columns: ['minute', 'step', ...gauges.map(({ name }) => name)],
      rows: [
        ...chosen.map((sample) => [sample.minute.toFixed(0), String(sample.step), ...gauges.map(({ of, digits }) => shown(of(sample), digits))]),
        ['growth an hour', shown(stepsPerHour, 0), ...gauges.map(({ of, digits }) => shown(60 * growthPerMinute(warm, of), digits))],
      ],
    },
  ];
}

/** Of each step's loss to the quiet run's, relative. */
export function differencesOf({ losses }: Ledger, quiet: readonly number[]): readonly number[] {
  return losses.map((loss, step) => Math.abs(loss / (quiet[step] ?? Number.NaN) - 1));
}

export function lossTable(ledger: Ledger, quiet: readonly number[]): Table {
  const { losses, complaints } = ledger;
  const differences = differencesOf(ledger, quiet);
  return {
    title: 'Losses, and those of a quiet run of one page',
    notes: [
      complaints.length === 0 ? 'every step was announced once, in order, and stayed as it was' : `WRONG: ${complaints.join('; ')}`,
      'differences are relative; sums of gradients are added in another order when others compute them, so they are not nothing',
    ],
    columns: ['steps', 'last loss', 'quiet run', 'difference', 'largest so far'],
    rows: [
      [
        String(losses.length),
        losses.at(-1)?.toFixed(6) ?? '',
        quiet[losses.length - 1]?.toFixed(6) ?? '',
        differences.at(-1)?.toExponential(1) ?? '',
        Math.max(...differences).toExponential(1),
      ],
    ],
  };
}
