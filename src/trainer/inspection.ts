/**
 * A job's micro-batches computed with every value kept, for debugging: which op first gave a number that is none, and how far
 * each kernel is from what its op means. It explains; what to do about it is the caller's affair.
 */
import type { InspectedNode } from '../engine/index.ts';
import { setMicrobatch } from './microbatch.ts';
import type { Run } from './run.ts';
import type { ComparedKernel, GradientJob } from './types.ts';

/** A sentence for a person; null when every value of the job is finite, so that the sum over micro-batches must be what overflowed. */
export async function firstNonFinite({ engine, settings, layout, weights, inspect }: Run, job: GradientJob): Promise<string | null> {
  const flat = new Float32Array(await engine.read(weights));
  for (const { name, offsetElements, lengthElements } of layout.entries) {
    const count = flat.subarray(offsetElements, offsetElements + lengthElements).reduce(countNonFinite, 0);
    if (count > 0) return `${name} itself has ${count} values that are infinite or no number`;
  }
  const inspection = await inspect('finite');
  for (const [position, { index }] of job.microbatches.entries()) {
    for await (const { op, parameters, nonFinite } of inspection(inputsOf(job, position, settings.seed))) {
      if (nonFinite === 0) continue;
      return `the first op to give values that are infinite or no number is ${op}${withParameters(parameters)}: ${nonFinite} of them, in micro-batch ${index}`;
    }
  }
  return null;
}

/** Every op of the job's first micro-batch, in the order they run. Takes minutes for models that people train. */
export async function compareKernels({ settings, inspect }: Run, job: GradientJob): Promise<readonly ComparedKernel[]> {
  const inspection = await inspect('references');
  const compared: ComparedKernel[] = [];
  for await (const { op, parameters, errors } of inspection(inputsOf(job, 0, settings.seed))) {
    if (errors.length > 0) compared.push({ op: `${op}${withParameters(parameters)}`, relativeError: Math.max(...errors) });
  }
  return compared;
}

function inputsOf({ step, microbatches }: GradientJob, position: number, seed: number): Map<string, Float32Array | Uint32Array> {
  const inputs = new Map<string, Float32Array | Uint32Array>();
  const microbatch = microbatches[position];
  if (microbatch === undefined) throw new RangeError('the job has no micro-batch');
  setMicrobatch({ setInput: (name, data) => inputs.set(name, data) }, { ...microbatch, seed, step });
  return inputs;
}

function withParameters(parameters: InspectedNode['parameters']): string {
  return parameters.length > 0 ? ` with ${parameters.join(' and ')}` : '';
}

function countNonFinite(count: number, value: number): number {
  return count + Number(!Number.isFinite(value));
}
