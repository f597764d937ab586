/**
 * A model opened to write and to be measured: weights on the GPU and nothing of what training takes. What a room trains is opened by
 * `gpu-trainer.ts`; both write with `replies.ts` and measure with `gradients.ts`.
 */
import type { MicrobatchRows } from '../data/types.ts';
import { openEngine } from '../engine/index.ts';
import type { EngineOptions, Program } from '../engine/index.ts';
import { evaluationGraph } from '../model/decoder.ts';
import { parameterLayoutOf } from '../model/parameters.ts';
import type { DecoderConfig } from '../model/types.ts';
import { asTrainerError } from './errors.ts';
import { sumLosses } from './gradients.ts';
import { Replies } from './replies.ts';
import type { SampleRequest, SampleResult } from './types.ts';

export interface OpenModel {
  /** As `Trainer.sample`. */
  sample(request: SampleRequest, drawn?: (id: number) => void): Promise<SampleResult>;
  stopSample(sample: string): void;
  /** Sum of weighted losses in nats, and of the weights. All micro-batches have the same shape. */
  sumLosses(microbatches: readonly MicrobatchRows[]): Promise<{ readonly lossSum: number; readonly weightSum: number }>;
  close(): void;
}

export interface ModelToOpen {
  readonly model: DecoderConfig;
  /** Most tokens that one is predicted from. */
  readonly contextLength: number;
  /** Flat, by `parameterLayoutOf(model)`. */
  readonly weights: Float32Array<ArrayBuffer>;
}

/** Throws `TrainerError` when the GPU can't be opened or has not enough memory. */
export async function openModel(gpu: GPU, { model, contextLength, weights: values }: ModelToOpen, options?: EngineOptions): Promise<OpenModel> {
  const engine = await explained(openEngine(gpu, options));
  const layout = parameterLayoutOf(model);
  const weights = engine.allocateFlat('weights', layout);
  const evaluationLossSum = engine.allocate('evaluation loss', 1);
  engine.write(weights, values);
  const replies = new Replies({ engine, layout, weights, settings: { model, contextLength } }, { step: () => 0, revision: () => 0, isBusy: () => false });
  const programs = new Map<string, Promise<Program>>();
  const evaluation = (rows: number, length: number): Promise<Program> => {
    const key = `${rows}×${length}`;
    const known = programs.get(key);
    if (known) return known;
    const program = engine.compile(evaluationGraph(model, rows, length), { parameters: weights, layout, totals: new Map([['loss', evaluationLossSum]]) });
    programs.set(key, program);
    return program;
  };
  return {
    sample: (request, drawn) => explained(replies.sample(request, drawn)),
    stopSample: (sample) => {
      replies.stop(sample);
    },
    sumLosses: (microbatches) => explained(sumLosses({ engine, evaluationLossSum, evaluation }, microbatches)),
    close: () => {
      replies.close();
      engine.destroy();
    },
  };
}

/** Mistakes of the caller stay what they are. */
async function explained<T>(work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    throw error instanceof RangeError ? error : asTrainerError(error);
  }
}
