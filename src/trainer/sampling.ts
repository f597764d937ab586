/**
 * Continues a prompt token by token: which tokens the next one is predicted from, when it ends, and what is told of it. It gets
 * logits through a function that it is given and knows neither text nor GPU; how one token is drawn is in `drawing.ts`.
 */
import { hashBelow } from '../data/hash.ts';
import { drawProblem, drawToken } from './drawing.ts';
import type { SampleEnd, SampleRequest } from './types.ts';

/** Logits [vocabulary] of the token that follows `ids`, seen from `ids[start]` on. */
export type NextLogits = (ids: readonly number[], start: number) => Promise<Float32Array>;

export interface SampleLimits {
  /** Most tokens that one is predicted from. */
  readonly capacity: number;
  readonly vocabularySize: number;
}

export interface SampleSteering {
  /** Called with each token as it is drawn. */
  readonly drawn?: (id: number) => void;
  /** Asked before each token. */
  readonly isStopped?: () => boolean;
}

const uniformBits = 2 ** 53;

/**
 * Where the window starts that the token after `count` others is predicted from: at the first one while all fit, then half a
 * capacity further on whenever the window would be too long. Moving it token by token would mean computing it whole each time, since
 * keys and values of its tokens depend on those that leave it.
 */
export function windowStart(count: number, capacity: number): number {
  const shift = Math.max(1, Math.floor(capacity / 2));
  return count <= capacity ? 0 : Math.ceil((count - capacity) / shift) * shift;
}

/** Throws `RangeError` for what can't be sampled, naming what is wrong. */
export function checkRequest(request: SampleRequest, vocabularySize: number): void {
  const { promptIds, maxNewTokens, stopIds = [] } = request;
  if (promptIds.length === 0) throw new RangeError('a sample needs at least one token to continue');
  for (const [what, ids] of [['prompt', promptIds], ['list of stop ids', stopIds]] as const) {
    const wrong = ids.find((id) => !Number.isInteger(id) || id < 0 || id >= vocabularySize);
    if (wrong !== undefined) throw new RangeError(`the ${what} holds token ${wrong}, and the vocabulary has ${vocabularySize}`);
  }
  if (!Number.isSafeInteger(maxNewTokens) || maxNewTokens < 0) throw new RangeError(`maxNewTokens must be a whole number from 0, and is ${maxNewTokens}`);
  const problem = drawProblem(request);
  if (problem !== null) throw new RangeError(problem);
}

/**
 * Token ids that continue `promptIds`, one at a time, and why they ended. A stop id ends them and is the last of them. Between two
 * tokens others may run. Throws as `checkRequest` does.
 */
export async function sampleTokens(
  request: SampleRequest,
  { capacity, vocabularySize }: SampleLimits,
  nextLogits: NextLogits,
  { drawn, isStopped = () => false }: SampleSteering = {},
): Promise<{ readonly ids: readonly number[]; readonly end: SampleEnd }> {
  checkRequest(request, vocabularySize);
  const { promptIds, maxNewTokens, seed } = request;
  const stopIds = new Set(request.stopIds);
  const ids = [...promptIds];
  let end: SampleEnd = 'length';
  while (ids.length - promptIds.length < maxNewTokens) {
    if (isStopped()) {
      end = 'stopped';
      break;
    }
    const logits = await nextLogits(ids, windowStart(ids.length, capacity));
    const id = drawToken(logits, request, ids, hashBelow(uniformBits, seed, ids.length - promptIds.length) / uniformBits);
    ids.push(id);
    drawn?.(id);
    if (stopIds.has(id)) {
      end = 'stop-id';
      break;
    }
  }
  return { ids: ids.slice(promptIds.length), end };
}
