/**
 * Continues a prompt with the replica's weights: which window of tokens to look at, and how to draw the next one.
 * It computes logits through a function it is given and knows neither text nor GPU.
 */
import { hashBelow } from '../data/hash.ts';
import type { SampleRequest } from './types.ts';

/** Logits [vocabulary] of the token that follows `window`. */
export type NextLogits = (window: readonly number[]) => Promise<Float32Array>;

const shortestLength = 8;
const uniformBits = 2 ** 53;

/**
 * Length of the sequence to compute for a window of `count` tokens: the next power of two (from 8), at most the context.
 * Few lengths, so few programs; causality makes what pads the end invisible.
 */
export function paddedLength(count: number, contextLength: number): number {
  const power = Math.max(shortestLength, 2 ** Math.ceil(Math.log2(count)));
  return Math.min(power, contextLength);
}

/**
 * Token ids that continue `promptIds`, one at a time. Between two tokens others may run, and the weights may change.
 * Throws `RangeError` for an empty prompt or an id outside the vocabulary.
 */
export async function sampleTokens(
  request: SampleRequest,
  limits: { readonly contextLength: number; readonly vocabularySize: number },
  nextLogits: NextLogits,
): Promise<number[]> {
  const { promptIds, maxNewTokens, temperature, seed } = request;
  if (promptIds.length === 0) throw new RangeError('a sample needs at least one token to continue');
  const wrong = promptIds.find((id) => !Number.isInteger(id) || id < 0 || id >= limits.vocabularySize);
  if (wrong !== undefined) {
    throw new RangeError(`the prompt holds token ${wrong}, and the vocabulary has ${limits.vocabularySize}`);
  }
  const ids = [...promptIds];
  for (let drawn = 0; drawn < maxNewTokens; drawn++) {
    const logits = await nextLogits(ids.slice(-limits.contextLength));
    ids.push(drawToken(logits, temperature, hashBelow(uniformBits, seed, drawn) / uniformBits));
  }
  return ids.slice(promptIds.length);
}

/**
 * Temperature 0: the first of the largest logits. Else softmax(logits / temperature), by inverting its cumulative sum at
 * `uniform` in [0, 1).
 */
export function drawToken(logits: Float32Array, temperature: number, uniform: number): number {
  let best = 0;
  for (let id = 1; id < logits.length; id++) if ((logits[id] ?? 0) > (logits[best] ?? 0)) best = id;
  if (temperature <= 0) return best;
  const largest = logits[best] ?? 0;
  const weights = Float64Array.from(logits, (logit) => Math.exp((logit - largest) / temperature));
  let remaining = uniform * weights.reduce((sum, weight) => sum + weight, 0);
  for (const [id, weight] of weights.entries()) {
    remaining -= weight;
    if (remaining < 0) return id;
  }
  return best; // Rounding ate the last of the sum, or the logits were not finite.
}
