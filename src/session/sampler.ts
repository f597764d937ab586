/**
 * Draws a text sample from the current replica every few seconds, less often where drawing one takes long.
 * One sample at a time; failures are silent, since a lost GPU is reported elsewhere and the next sample tells.
 */
import type { Tokenizer } from '../data/tokenizer.ts';
import type { Trainer } from '../trainer/types.ts';

const shortestPauseMs = 3000;
const longestPauseMs = 20_000;
/** A sample that took a second is followed by a pause of eight: on slow devices sampling stays a small share of the time. */
const pausePerSampleTime = 8;
const newTokens = 48;
/** Of a sample that is told to others; 48 tokens are rarely a tenth of it. */
const longestText = 1000;

export interface SamplerOptions {
  readonly tokenizer: Tokenizer;
  readonly prompt: string;
  readonly sampled: (sample: { readonly step: number; readonly text: string; readonly temperature: number }) => void;
}

export class Sampler {
  readonly #options: SamplerOptions;
  readonly #promptIds: readonly number[];
  #nextAtMs = 0;
  #isSampling = false;
  #lastStep = -1;
  #lastTemperature = -1;

  constructor(options: SamplerOptions) {
    this.#options = options;
    this.#promptIds = [...options.tokenizer.encode(options.prompt)];
  }

  /** Ask soon again, whatever the pause: the temperature changed. */
  hurry(): void {
    this.#nextAtMs = 0;
  }

  /** Starts a sample when one is due and the weights (or the temperature) have changed since the last. */
  tick(trainer: Trainer, step: number, temperature: number, nowMs: number): void {
    const isStale = step !== this.#lastStep || temperature !== this.#lastTemperature;
    if (this.#isSampling || nowMs < this.#nextAtMs || !isStale) return;
    this.#isSampling = true;
    this.#lastStep = step;
    this.#lastTemperature = temperature;
    const startMs = performance.now();
    trainer
      .sample({ promptIds: this.#promptIds, maxNewTokens: newTokens, temperature, seed: step })
      .then(
        ({ ids }) => {
          // What waits at the end is half a character: it is left out.
          const decoder = this.#options.tokenizer.streamDecoder();
          const text = ids.map((id) => decoder.push(id)).join('').slice(0, longestText);
          this.#options.sampled({ step, text, temperature });
        },
        () => undefined,
      )
      .finally(() => {
        this.#isSampling = false;
        const endMs = performance.now();
        this.#nextAtMs = endMs + Math.min(longestPauseMs, Math.max(shortestPauseMs, pausePerSampleTime * (endMs - startMs)));
      });
  }
}
