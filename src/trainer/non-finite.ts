/**
 * Which op first gave a number that is none, when a step's loss or gradient is not finite: the step is computed again with
 * every value kept. It explains; what to do about it is the caller's affair.
 */
import { compileInspection } from '../engine/index.ts';
import { trainingGraph } from '../model/decoder.ts';
import { setMicrobatch } from './microbatch.ts';
import type { Run } from './run.ts';
import type { GradientJob } from './types.ts';

/** A sentence for a person; null when every value of the job is finite, so that the sum over micro-batches must be what overflowed. */
export async function firstNonFinite({ engine, settings, layout, weights }: Run, job: GradientJob): Promise<string | null> {
  const flat = new Float32Array(await engine.read(weights));
  for (const { name, offsetElements, lengthElements } of layout.entries) {
    const count = flat.subarray(offsetElements, offsetElements + lengthElements).reduce(countNonFinite, 0);
    if (count > 0) return `${name} itself has ${count} values that are infinite or no number`;
  }
  // Memory of its own: the job's sums may still be wanted.
  const gradients = engine.allocateFlat('inspected gradients', layout);
  const loss = engine.allocate('inspected loss', 1);
  const graph = trainingGraph(settings.model, settings.rowsPerMicrobatch, settings.contextLength);
  const options = { parameters: weights, layout, gradients, totals: new Map([['loss', loss]]) };
  const inspect = await compileInspection(engine, graph, options, { compares: false });
  for (const { index, rows } of job.microbatches) {
    const inputs = new Map<string, Float32Array | Uint32Array>();
    setMicrobatch({ setInput: (name, data) => inputs.set(name, data) }, { seed: settings.seed, step: job.step, index, rows });
    for await (const { op, parameters, nonFinite } of inspect(inputs)) {
      if (nonFinite === 0) continue;
      const where = parameters.length > 0 ? ` with ${parameters.join(' and ')}` : '';
      return `the first op to give values that are infinite or no number is ${op}${where}: ${nonFinite} of them, in micro-batch ${index}`;
    }
  }
  return null;
}

function countNonFinite(count: number, value: number): number {
  return count + Number(!Number.isFinite(value));
}
