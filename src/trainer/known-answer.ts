/**
 * A small training step whose right answer is known: model, weights, tokens, and how gradients are condensed to a few
 * numbers that can be stored. The numbers themselves are in `known-answer.json`, computed by the f64 interpreter;
 * `test/kernel/trainer-known-answer.test.ts` checks them and remakes them.
 */
import { hashBelow } from '../data/hash.ts';
import type { MicrobatchRows } from '../data/types.ts';
import type { ParameterLayout } from '../engine/index.ts';
import type { Precision } from '../model/decoder.ts';
import type { DecoderConfig } from '../model/types.ts';

/** Every op of a training step once, with sizes that no tile divides; more than a tile in some dimension of each. */
export const knownModel: DecoderConfig = {
  model_type: 'qwen3',
  vocab_size: 83,
  hidden_size: 36,
  intermediate_size: 75,
  num_hidden_layers: 2,
  num_attention_heads: 6,
  num_key_value_heads: 2,
  head_dim: 12,
  max_position_embeddings: 64,
  rms_norm_eps: 1e-6,
  rope_theta: 10_000,
  tie_word_embeddings: true,
  initializer_range: 0.02,
  dropout: 0.1,
};
export const knownRowCount = 3;
export const knownContextLength = 37;
export const knownDropoutSeed: readonly number[] = [0x5eed, 7, 3, 0];

const resolution = 2 ** 20;
const weightSalt = 1;
const rowSalt = 2;
const signSalt = 3;
const projectionsPerTensor = 3;

/** Uniform in [-1, 1), the same on every machine and exact in f32. */
function signed(...words: readonly number[]): number {
  return (2 * hashBelow(resolution, ...words)) / resolution - 1;
}

/** Weights large enough that every part of the model matters to the loss; norms away from 1. */
export function knownWeights(layout: ParameterLayout): Float32Array<ArrayBuffer> {
  const flat = new Float32Array(layout.totalElements);
  for (const { shape, offsetElements, lengthElements } of layout.entries) {
    const [scale, center] = shape.length < 2 ? [0.25, 1] : [0.25, 0];
    for (let index = offsetElements; index < offsetElements + lengthElements; index++) {
      flat[index] = center + scale * signed(weightSalt, index);
    }
  }
  return flat;
}

/** Rows with repeated tokens, unequal loss weights, and unscored ends. */
export function knownRows(): MicrobatchRows {
  const positions = knownRowCount * knownContextLength;
  const ids = Uint32Array.from({ length: positions }, (_, at) => hashBelow(knownModel.vocab_size, rowSalt, at));
  return {
    rows: knownRowCount,
    contextLength: knownContextLength,
    inputIds: ids,
    targets: ids.map((_, at) => ids[at + 1] ?? 0),
    lossWeights: Float32Array.from(ids, (_, at) => ((at + 1) % knownContextLength === 0 ? 0 : (at % 4) / 2)),
  };
}

export interface KnownTensor {
  readonly name: string;
  readonly norm: number;
  /** Dot products with fixed vectors of ±1: they see what a norm does not, such as elements in the wrong place. */
  readonly projections: readonly number[];
}

export interface KnownAnswer {
  readonly lossSum: number;
  readonly tensors: readonly KnownTensor[];
}

/** Condenses a loss sum and flat gradients by the layout. */
export function condense(layout: ParameterLayout, lossSum: number, gradients: Float32Array | Float64Array): KnownAnswer {
  const tensors = layout.entries.map(({ name, offsetElements, lengthElements }): KnownTensor => {
    let squares = 0;
    const projections = Array.from({ length: projectionsPerTensor }, () => 0);
    for (let index = offsetElements; index < offsetElements + lengthElements; index++) {
      const value = gradients[index] ?? Number.NaN;
      squares += value * value;
      const signs = hashBelow(2 ** projectionsPerTensor, signSalt, index);
      for (const [which, sum] of projections.entries()) {
        projections[which] = sum + ((signs >> which) & 1 ? value : -value);
      }
    }
    return { name, norm: Math.sqrt(squares), projections };
  });
  return { lossSum, tensors };
}

/**
 * Relative to the loss and to each tensor's norm. Correct adapters are within a few 1e-6 here (f32 sums of some hundred
 * terms; WGSL lets exp and inverseSqrt be off by a few units in the last place); this leaves them a factor of a hundred.
 * A kernel that skips, repeats or misplaces one element in a thousand is off by more.
 */
export const knownAnswerTolerances: Readonly<Record<Precision, number>> = {
  f32: 1e-3,
  // f16 rounds each value by up to 2^-11. Lavapipe is within 4.3e-3 here, at every loss scale that doesn't overflow.
  mixed: 3e-2,
};

/** The first number that is wrong, in words; null when all agree. Anything not finite is wrong. */
export function firstDifference(expected: KnownAnswer, measured: KnownAnswer, precision: Precision): string | null {
  const tolerance = knownAnswerTolerances[precision];
  const isNear = (value: number, right: number, scale: number): boolean => Math.abs(value - right) <= tolerance * Math.abs(scale);
  if (!isNear(measured.lossSum, expected.lossSum, expected.lossSum)) {
    return `a loss of ${measured.lossSum} where ${expected.lossSum} is right`;
  }
  for (const [position, right] of expected.tensors.entries()) {
    const tensor = measured.tensors[position];
    if (tensor?.name !== right.name) return `the check and this version of the page disagree about ${right.name}`;
    const isRight =
      isNear(tensor.norm, right.norm, right.norm) &&
      right.projections.every((value, which) => isNear(tensor.projections[which] ?? Number.NaN, value, right.norm));
    if (!isRight) return `the gradient of ${right.name}`;
  }
  return null;
}
