/**
 * From logits to one token: which tokens may come, and which of them does. The filters, and their order, are those of Hugging
 * Face's transformers (`generation/logits_process.py`, and `_get_logits_processor` in `generation/utils.py`): repetition penalty
 * (Keskar et al., CTRL, 2019), temperature, top-k (Fan et al., 2018), top-p (Holtzman et al., The Curious Case of Neural Text
 * Degeneration, 2019), min-p (Nguyen et al., Turning Up the Heat, 2024). Each sees what the ones before it left.
 * It knows no model, text or GPU.
 */

export interface DrawSettings {
  /** Logits are divided by it; 0 takes the likeliest token, and the filters behind it change nothing. */
  readonly temperature: number;
  /** Only so many of the likeliest; those as likely as the last of them stay too. 0, the default: all. */
  readonly topK?: number;
  /** Only the likeliest that together reach this probability, at least one. Default 1: all. */
  readonly topP?: number;
  /** Only those at least this share as probable as the likeliest. Default 0: all. */
  readonly minP?: number;
  /** Logits of tokens that occurred, prompt included, are divided by it where they are positive, else multiplied. Default 1. */
  readonly repetitionPenalty?: number;
}

/** What is wrong with the settings, in a sentence that names one; null when nothing is. */
export function drawProblem({ temperature, topK = 0, topP = 1, minP = 0, repetitionPenalty = 1 }: DrawSettings): string | null {
  if (!(temperature >= 0 && Number.isFinite(temperature))) return `temperature must be at least 0, and is ${temperature}`;
  if (!Number.isSafeInteger(topK) || topK < 0) return `top-k must be a whole number from 0, and is ${topK}`;
  if (!(topP > 0 && topP <= 1)) return `top-p must be above 0 and at most 1, and is ${topP}`;
  if (!(minP >= 0 && minP <= 1)) return `min-p must be from 0 to 1, and is ${minP}`;
  if (!(repetitionPenalty > 0 && Number.isFinite(repetitionPenalty))) return `repetition penalty must be above 0, and is ${repetitionPenalty}`;
  return null;
}

/**
 * Logits [vocabulary] after the filters: −Infinity for tokens that may not come, the likeliest never among them. `occurred` are the ids
 * of prompt and reply so far. The logits given are not changed.
 */
export function filteredLogits(logits: Float32Array, settings: DrawSettings, occurred: Iterable<number>): Float64Array {
  const { temperature, topK = 0, topP = 1, minP = 0, repetitionPenalty = 1 } = settings;
  const scores = Float64Array.from(logits);
  if (repetitionPenalty !== 1) penalize(scores, repetitionPenalty, occurred);
  if (temperature === 0) return scores;
  for (const [id, score] of scores.entries()) scores[id] = score / temperature;
  if (topK > 0 && topK < scores.length) keepTop(scores, topK);
  if (topP < 1) keepNucleus(scores, topP);
  if (minP > 0) keepAtLeast(scores, minP);
  return scores;
}

/** Of tokens that may come, the one that `uniform` in [0, 1) falls on; at temperature 0 the first of the likeliest. */
export function drawToken(logits: Float32Array, settings: DrawSettings, occurred: Iterable<number>, uniform: number): number {
  const scores = filteredLogits(logits, settings, occurred);
  const best = likeliest(scores);
  if (settings.temperature === 0) return best;
  const largest = scores[best] ?? 0;
  const weights = scores.map((score) => Math.exp(score - largest));
  let remaining = uniform * weights.reduce((sum, weight) => sum + weight, 0);
  for (const [id, weight] of weights.entries()) {
    remaining -= weight;
    if (remaining < 0) return id;
  }
  return best; // Rounding ate the last of the sum, or the logits were not finite.
}

function likeliest(scores: Float64Array): number {
  let best = 0;
  for (let id = 1; id < scores.length; id++) if ((scores[id] ?? 0) > (scores[best] ?? 0)) best = id;
  return best;
}

function penalize(scores: Float64Array, penalty: number, occurred: Iterable<number>): void {
  for (const id of new Set(occurred)) {
    const score = scores[id];
    if (score !== undefined) scores[id] = score < 0 ? score * penalty : score / penalty;
  }
}

function keepTop(scores: Float64Array, count: number): void {
  const least = scores.toSorted()[scores.length - count] ?? -Infinity;
  for (const [id, score] of scores.entries()) if (score < least) scores[id] = -Infinity;
}

/** Tokens from the least likely on go as long as their probabilities sum to at most 1 − `share`; the likeliest stays. */
function keepNucleus(scores: Float64Array, share: number): void {
  const order = Uint32Array.from(scores.keys()).sort((a, b) => (scores[a] ?? 0) - (scores[b] ?? 0));
  const best = order.at(-1) ?? 0;
  const largest = scores[best] ?? 0;
  const total = scores.reduce((sum, score) => sum + Math.exp(score - largest), 0);
  let sum = 0;
  for (const id of order) {
    sum += Math.exp((scores[id] ?? -Infinity) - largest) / total;
    if (sum > 1 - share || id === best) return;
    scores[id] = -Infinity;
  }
}

function keepAtLeast(scores: Float64Array, share: number): void {
  const least = (scores[likeliest(scores)] ?? 0) + Math.log(share);
  for (const [id, score] of scores.entries()) if (score < least) scores[id] = -Infinity;
}
