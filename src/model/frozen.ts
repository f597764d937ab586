/** What training leaves as it is. Which tensors that are is said in `parameters.ts`. */
import * as v from 'valibot';
import type { DecoderConfig } from './types.ts';

/** No gradient, no decay, no share in the norm. A head that is tied to the embeddings goes with them. */
export interface Frozen {
  readonly embeddings: boolean;
  /** So many of the lowest layers. */
  readonly layers: number;
}

export const nothingFrozen: Frozen = { embeddings: false, layers: 0 };

/** As run files and rooms write it; what is left out is not frozen. */
export const frozenSchema = v.strictObject({
  embeddings: v.optional(v.boolean(), false),
  layers: v.optional(v.pipe(v.number(), v.safeInteger(), v.minValue(0)), 0),
});

/** Why a model can't be trained like this; null when it can. */
export function frozenProblem({ num_hidden_layers: layers }: DecoderConfig, frozen: Frozen): string | null {
  return frozen.layers <= layers ? null : `frozen.layers is ${frozen.layers}, and the model has ${layers}`;
}
