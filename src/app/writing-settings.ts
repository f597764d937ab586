/** How daring the model may write: sliders for what `DrawSettings` has, a length, a seed and stop strings. Keeps them; fires what they come to. */
import { LitElement, css, html } from 'lit';
import type { GenerateOptions } from '../session/types.ts';
import { baseStyles } from './base-styles.ts';

export type WritingOptions = Required<Pick<GenerateOptions, 'temperature' | 'topK' | 'topP' | 'minP' | 'repetitionPenalty' | 'maxNewTokens' | 'stop'>> &
  Pick<GenerateOptions, 'seed'>;

export const usualWriting: WritingOptions = { temperature: 0.8, topK: 0, topP: 1, minP: 0, repetitionPenalty: 1, maxNewTokens: 200, stop: [] };

interface Slider {
  readonly key: 'temperature' | 'topK' | 'topP' | 'minP' | 'repetitionPenalty' | 'maxNewTokens';
  readonly name: string;
  readonly hint: string;
  readonly min: number;
  readonly max: number;
  readonly step: number;
  /** What an end of the slider means, where it means something else than its number. */
  readonly off?: { readonly at: number; readonly text: string };
}

const sliders: readonly Slider[] = [
  { key: 'temperature', name: 'Temperature', hint: '0 always takes the likeliest token', min: 0, max: 2, step: 0.05 },
  { key: 'topP', name: 'Top-p', hint: 'only the likeliest that together reach this probability', min: 0.05, max: 1, step: 0.05, off: { at: 1, text: 'all' } },
  { key: 'topK', name: 'Top-k', hint: 'only so many of the likeliest', min: 0, max: 100, step: 1, off: { at: 0, text: 'all' } },
  { key: 'minP', name: 'Min-p', hint: 'only those at least this share as probable as the likeliest', min: 0, max: 0.5, step: 0.01, off: { at: 0, text: 'all' } },
  { key: 'repetitionPenalty', name: 'Repetition penalty', hint: 'makes what occurred less likely', min: 1, max: 2, step: 0.05, off: { at: 1, text: 'none' } },
  { key: 'maxNewTokens', name: 'Most tokens', hint: 'ends the text at the latest', min: 8, max: 1024, step: 8 },
];

/** @fires settings - detail: WritingOptions */
export class WritingSettings extends LitElement {
  static override properties = { settings: { attribute: false } };

  static override styles = [
    baseStyles,
    css`
      .sliders {
        display: grid;
        grid-template-columns: repeat(auto-fill, minmax(210px, 1fr));
        gap: var(--space-2) var(--space-6);
      }
      label {
        display: grid;
        grid-template-columns: 1fr auto;
        align-items: baseline;
        align-content: start;
        gap: 0 var(--space-2);
      }
      input[type='range'] {
        grid-column: 1 / -1;
        width: 100%;
        min-height: 24px;
        margin: 0;
      }
      .hint,
      label > input:not([type='range']),
      textarea {
        grid-column: 1 / -1;
      }
    `,
  ];

  settings: WritingOptions = usualWriting;

  #change(part: Partial<WritingOptions>): void {
    this.settings = { ...this.settings, ...part };
    this.dispatchEvent(new CustomEvent<WritingOptions>('settings', { detail: this.settings }));
  }

  #seed(event: Event): void {
    const { value } = event.target as HTMLInputElement;
    const { seed: _, ...rest } = this.settings;
    this.settings = rest;
    this.#change(value === '' ? {} : { seed: Math.max(0, Math.floor(Number(value))) });
  }

  #slider({ key, name, hint, min, max, step, off }: Slider): unknown {
    const value = this.settings[key];
    const text = value === off?.at ? off.text : String(Number(value.toFixed(2)));
    return html`<label>
      ${name} <output class="data">${text}</output>
      <input
        type="range"
        min=${min}
        max=${max}
        step=${step}
        data-testid="writing-${key}"
        aria-valuetext="${text}"
        .value=${String(value)}
        @input=${(event: Event) => this.#change({ [key]: Number((event.target as HTMLInputElement).value) })}
      />
      <span class="hint small soft">${hint}</span>
    </label>`;
  }

  override render(): unknown {
    const { seed, stop } = this.settings;
    return html`<div class="sliders">
      ${sliders.map((slider) => this.#slider(slider))}
      <label>
        Seed
        <input type="number" min="0" max="4294967295" placeholder="another one each time" .value=${seed === undefined ? '' : String(seed)}
          @change=${(event: Event) => this.#seed(event)} />
        <span class="hint small soft">the same seed writes the same text</span>
      </label>
      <label>
        Stop at
        <textarea rows="1" placeholder="a text in each line" .value=${stop.join('\n')}
          @change=${(event: Event) => this.#change({ stop: (event.target as HTMLTextAreaElement).value.split('\n').filter(Boolean) })}></textarea>
        <span class="hint small soft">the text ends before the first of them</span>
      </label>
    </div>`;
  }
}

customElements.define('writing-settings', WritingSettings);
