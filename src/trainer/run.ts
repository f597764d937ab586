/**
 * One planned run on an opened GPU: the flat buffers every peer has, and the programs over them, compiled when first
 * needed. What is done with them, and in which order, is the trainer's affair.
 */
import type { CodecName } from '../codec/index.ts';
import { compileInspection, EngineError, openEngine } from '../engine/index.ts';
import type { Engine, EngineOptions, Graph, Inspection, Memory, ParameterLayout, Program, Region } from '../engine/index.ts';
import { evaluationGraph, trainingGraph } from '../model/decoder.ts';
import type { Precision, TrainingOptions } from '../model/decoder.ts';
import { nothingFrozen } from '../model/frozen.ts';
import { parameterLayoutOf } from '../model/parameters.ts';
import { GradientScaler, ReplicaHash } from '../optim/index.ts';
import { memoryTable } from './memory-table.ts';
import { LocalSteps } from './local-steps.ts';
import { LossScale } from './loss-scale.ts';
import { usablePrecision } from './mixed-precision.ts';
import type { MixedPrecision } from './mixed-precision.ts';
import { hasLocalSteps } from './types.ts';
import type { TrainerSettings } from './types.ts';

export interface Run {
  readonly engine: Engine;
  readonly settings: TrainerSettings;
  /** Of contributions and updates, unless another one is asked for. */
  readonly codec: CodecName;
  readonly layout: ParameterLayout;
  /** The replica; on the coordinator also the master weights, unless `hasMasterWeights`. */
  readonly weights: Memory;
  /** What gradients are of: the replica, or with local steps what the device's own steps have made of it. */
  readonly trained: Memory;
  readonly gradients: Memory;
  readonly lossSum: Region;
  readonly evaluationLossSum: Region;
  readonly training: Program;
  /** Null where the room's steps are AdamW's. */
  readonly local: LocalSteps | null;
  /** With `settings.precision` `mixed`, if the GPU can. */
  readonly mixed: MixedPrecision | null;
  /** Micro-batches with every value kept, looked at for numbers that are none, or compared with the ops' references. */
  readonly inspect: (looksFor: 'finite' | 'references') => Promise<Inspection>;
  /** Of the weights as they are when everything queued before is done. */
  hash(): Promise<string>;
  /** Forward only, for micro-batches of this shape. */
  evaluation(rows: number, contextLength: number): Promise<Program>;
}

/** Throws `EngineError` when the GPU can't be opened or has not enough memory. */
export async function openRun(gpu: GPU, settings: TrainerSettings, options: EngineOptions | undefined): Promise<Run> {
  const engine = await openEngine(gpu, options);
  try {
    return await planRun(engine, settings);
  } catch (error) {
    engine.destroy();
    if (!(error instanceof EngineError) || error.code !== 'out-of-memory') throw error;
    const table = memoryTable(engine, settings, graphOfRun(settings, { recomputesLayers: true }));
    throw new EngineError(`${error.message}; this run takes ${table}`, { code: error.code, cause: error });
  }
}

async function planRun(engine: Engine, settings: TrainerSettings): Promise<Run> {
  const { model, keepDocumentsApart: documents = false } = settings;
  const layout = parameterLayoutOf(model, settings.frozen);
  const weights = engine.allocateFlat('weights', layout);
  const trained = hasLocalSteps(settings) ? engine.allocateFlat('locally trained weights', layout) : weights;
  const gradients = engine.allocateFlat('gradients', layout);
  const lossSum = engine.allocate('loss', 1);
  const evaluationLossSum = engine.allocate('evaluation loss', 1);
  const precision = await usablePrecision(engine, settings);
  const plain = graphOfRun(settings, { precision });
  const budget = settings.activationBudgetBytes ?? engine.profile.maxBufferBytes;
  const recomputesLayers = engine.activationBytes(plain) > budget;
  const graphOf = (chosen: Precision): Graph => graphOfRun(settings, { recomputesLayers, precision: chosen });
  const totals = new Map([['loss', lossSum]]);
  const compileTraining = (graph: Graph): Promise<Program> => engine.compile(graph, { parameters: trained, layout, gradients, totals });
  const training = await compileTraining(recomputesLayers ? graphOf(precision) : plain);
  const exactProgram = remembered(() => compileTraining(graphOf('f32')));
  const mixed =
    precision === 'mixed' ? { lossScale: new LossScale(), scaler: await GradientScaler.create(engine, gradients), exactProgram } : null;
  const local = hasLocalSteps(settings) ? await LocalSteps.open({ engine, layout, weights, trained, gradients, settings }) : null;
  const replicaHash = await ReplicaHash.create(engine, weights);
  // A read waits for the allocations above and throws when one of them found no memory.
  await engine.read(lossSum);
  return {
    engine,
    settings,
    codec: settings.codec === undefined || settings.codec === 'auto' ? 'fp32' : settings.codec,
    layout,
    weights,
    trained,
    gradients,
    lossSum,
    evaluationLossSum,
    training,
    local,
    mixed,
    hash: () => replicaHash.compute(),
    inspect: remembered((looksFor: 'finite' | 'references') =>
      // In memory of its own, since a job's sums may still be wanted. What isn't finite shows in f32 too; kernels are
      // compared as they are used.
      compileInspection(
        engine,
        graphOfRun(settings, { precision: looksFor === 'finite' ? 'f32' : precision }),
        {
          parameters: weights,
          layout,
          gradients: engine.allocateFlat('inspected gradients', layout),
          totals: new Map([['loss', engine.allocate('inspected loss', 1)]]),
        },
        { compares: looksFor === 'references' },
      ),
    ),
    evaluation: remembered((rows: number, length: number) =>
      engine.compile(evaluationGraph(model, rows, length, { documents }), {
        parameters: weights,
        layout,
        totals: new Map([['loss', evaluationLossSum]]),
      }),
    ),
  };
}

function graphOfRun({ model, rowsPerMicrobatch, contextLength, labelSmoothing = 0, frozen = nothingFrozen, keepDocumentsApart: documents = false }: TrainerSettings, options: TrainingOptions): Graph {
  return trainingGraph(model, rowsPerMicrobatch, contextLength, { ...options, labelSmoothing, frozen, documents });
}

/** Computes once for each combination of arguments; a failure is not remembered. */
function remembered<Args extends readonly (number | string)[], Result>(
  compute: (...args: Args) => Promise<Result>,
): (...args: Args) => Promise<Result> {
  const known = new Map<string, Promise<Result>>();
  return (...args) => {
    const key = args.join('×');
    const before = known.get(key);
    if (before) return before;
    const computed = compute(...args);
    known.set(key, computed);
    computed.catch(() => known.delete(key));
    return computed;
  };
}
