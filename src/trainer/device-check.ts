/**
 * Whether this device may compute: a training step with a known answer on its own GPU, run twice, and how fast it is.
 * A broken driver must never poison a room. It leaves nothing open.
 */
import { openEngine } from '../engine/index.ts';
import type { Engine, EngineOptions, Program } from '../engine/index.ts';
import { parameterLayoutOf } from '../model/parameters.ts';
import { trainingGraph } from '../model/decoder.ts';
import type { Precision } from '../model/decoder.ts';
import { asTrainerError, problems } from './errors.ts';
import { gpuName } from './device-name.ts';
import type { NamedAdapter } from './device-name.ts';
import { setRows } from './microbatch.ts';
import storedAnswer from './known-answer.json' with { type: 'json' };
import {
  condense,
  firstDifference,
  knownContextLength,
  knownDropoutSeed,
  knownModel,
  knownRowCount,
  knownRows,
  knownWeights,
} from './known-answer.ts';
import type { KnownAnswer } from './known-answer.ts';
import type { DeviceReport } from './types.ts';

/** The probe's length, about; it ends with the submission that passes it. Well under the 1.5 s that joining may take. */
const probeMs = 400;
const probeRunsPerSubmission = 4;

export interface DeviceCheckOptions {
  /** What to call the device; default is the GPU's own name. */
  readonly nameDevice?: (adapter: NamedAdapter) => string;
  readonly engineOptions?: EngineOptions;
  /** The right answer; default is the stored one. */
  readonly expected?: KnownAnswer;
}

/** Never throws: what stands in the way is the report's `problem`. */
export async function checkDevice(gpu: GPU | null, options: DeviceCheckOptions = {}): Promise<DeviceReport> {
  if (gpu === null) return noGpu('');
  let engine: Engine;
  try {
    engine = await openEngine(gpu, options.engineOptions);
  } catch (error) {
    return noGpu(error instanceof Error ? error.message : String(error));
  }
  const report = {
    name: (options.nameDevice ?? gpuName)({ info: engine.device.adapterInfo }),
    isSoftware: engine.profile.isSoftware,
    features: [...engine.device.features],
  };
  try {
    return { ...report, ...(await examine(engine, options.expected ?? storedAnswer)) };
  } catch (error) {
    return { ...report, probeTokensPerSecond: 0, problem: asTrainerError(error).problem };
  } finally {
    engine.destroy();
  }
}

function noGpu(detail: string): DeviceReport {
  const problem = problems.noWebGpu(detail);
  return { name: 'no usable GPU', isSoftware: false, features: [], probeTokensPerSecond: 0, problem };
}

type Examination = Pick<DeviceReport, 'problem' | 'probeTokensPerSecond'>;

async function examine(engine: Engine, expected: KnownAnswer): Promise<Examination> {
  const { wrong, program } = await computeKnownAnswer(engine, expected, 'f32');
  if (wrong !== null) return { problem: problems.wrongResults(wrong), probeTokensPerSecond: 0 };
  return { problem: null, probeTokensPerSecond: await probe(engine, program) };
}

/**
 * Computes the known answer twice. `wrong` says in words what is, and is null when nothing is. Its memory is kept until the
 * engine is destroyed: a few hundred kilobytes.
 */
export async function computeKnownAnswer(
  engine: Engine,
  expected: KnownAnswer,
  precision: Precision,
): Promise<{ readonly wrong: string | null; readonly program: Program }> {
  const layout = parameterLayoutOf(knownModel);
  const weights = engine.allocateFlat('known weights', layout);
  const gradients = engine.allocateFlat('known gradients', layout);
  const lossSum = engine.allocate('known loss', 1);
  engine.write(weights, knownWeights(layout));
  const program = await engine.compile(trainingGraph(knownModel, knownRowCount, knownContextLength, { precision }), {
    parameters: weights,
    layout,
    gradients,
    totals: new Map([['loss', lossSum]]),
  });
  setRows(program, knownRows());
  program.setInput('seed', Uint32Array.from(knownDropoutSeed));

  async function answer(): Promise<readonly [gradients: Float32Array, loss: number]> {
    engine.clear(gradients, lossSum);
    program.run();
    const values = new Float32Array(await engine.read(gradients));
    const [loss = Number.NaN] = new Float32Array(await engine.read(lossSum));
    return [values, loss];
  }
  const [first, firstLoss] = await answer();
  const difference = firstDifference(expected, condense(layout, firstLoss, first), precision);
  if (difference !== null) return { wrong: difference, program };
  const [second, secondLoss] = await answer();
  const isSame = firstLoss === secondLoss && first.every((value, index) => Object.is(value, second[index]));
  return { wrong: isSame ? null : 'the same step gave two different answers', program };
}

async function probe(engine: Engine, program: Program): Promise<number> {
  const startedMs = performance.now();
  let runs = 0;
  let elapsedMs = 0;
  while (elapsedMs < probeMs) {
    for (let run = 0; run < probeRunsPerSubmission; run++) program.run();
    runs += probeRunsPerSubmission;
    await engine.device.queue.onSubmittedWorkDone();
    elapsedMs = performance.now() - startedMs;
  }
  return (runs * knownRowCount * knownContextLength * 1000) / elapsedMs;
}
