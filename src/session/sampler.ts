/**
 * Draws a text sample from the current replica every few seconds, less often where drawing one takes long.
 * One sample at a time; failures are silent, since a lost GPU is reported elsewhere and the next sample tells.
 */
import type { CharacterTokenizer } from '../data/character-tokenizer.ts';
import type { Trainer } from '../trainer/types.ts';

const shortestPauseMs = 3000;
const longestPauseMs = 20_000;
/** A sample that took a second is followed by a pause of eight: on slow devices sampling stays a small share of the time. */
const pausePerSampleTime = 8;
const newTokens = 48;

export interface SamplerOptions {
  readonly tokenizer: CharacterTokenizer;
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
        (ids) => {
          this.#options.sampled({ step, text: this.#options.tokenizer.decode(ids), temperature });
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
