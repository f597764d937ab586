/** Initial weights: a pure function of config and seed. */
import type { DecoderConfig } from './types.ts';
import { embeddingName, parameterLayoutOf } from './parameters.ts';
import { fillNormal } from './random.ts';

/**
 * A tied head scores the current token against its own embedding: after the final norm its logit starts near
 * (standard deviation · hidden size), 2.6 at 128 and 0.02, which lifts the first loss above ln(vocabulary) by as little as 3 % where there are
 * 80 tokens, and by 150 % where there are 3. This is the logit at which it is 2 %. A smaller one than that costs learning: next to such an
 * embedding the stream is what attention adds, and which token is the current one has to be learned first (docs/DECISIONS.md).
 */
function tiedOwnLogit({ vocab_size: tokens }: DecoderConfig): number {
  return Math.log(tokens ** 1.02 - tokens + 1);
}

/**
 * Weights of a fresh model, flat by `parameterLayoutOf(config)`, padding zero. Norms are 1; matrices are normal with
 * `initializer_range`, except that
 * - projections into the residual stream (o_proj, down_proj) are scaled by 1/√(2·layers), so that the stream's variance
 *   does not grow with depth (Radford et al. 2019, GPT-2);
 * - the embedding of a tied model is small enough that the first loss is near ln(vocabulary), see `tiedOwnLogit`.
 */
export function initialWeights(config: DecoderConfig, seed: number): Float32Array<ArrayBuffer> {
  const layout = parameterLayoutOf(config);
  const flat = new Float32Array(layout.totalElements);
  for (const { name, shape, offsetElements, lengthElements } of layout.entries) {
    const part = flat.subarray(offsetElements, offsetElements + lengthElements);
    if (shape.length < 2) part.fill(1);
    else fillNormal(part, standardDeviation(config, name), seed, name);
  }
  return flat;
}

function standardDeviation(config: DecoderConfig, name: string): number {
  const base = config.initializer_range;
  if (name === embeddingName && config.tie_word_embeddings) return Math.min(base, tiedOwnLogit(config) / config.hidden_size);
  if (name.endsWith('.o_proj.weight') || name.endsWith('.down_proj.weight')) {
    return base / Math.sqrt(2 * config.num_hidden_layers);
  }
  return base;
}
