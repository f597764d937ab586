/** What the model writes right now: the prompt it was given and how it goes on, and how daring it may be. */
import { LitElement, css, html } from 'lit';
import type { SessionState } from '../session/types.ts';
import { baseStyles, panelStyles } from './base-styles.ts';
import { formatInteger } from './format.ts';
import './panel-header.ts';

function temperatureInWords(temperature: number): string {
  if (temperature === 0) return 'always the likeliest';
  if (temperature < 0.6) return 'careful';
  if (temperature < 1.05) return 'balanced';
  return 'daring';
}

/** @fires temperature - detail: number */
export class SamplePanel extends LitElement {
  static override properties = { sample: { attribute: false }, temperature: { type: Number }, isByCharacter: { attribute: false } };

  static override styles = [
    baseStyles,
    panelStyles,
    css`
      .sheet {
        /* Lines of an exercise book; a fixed height, so that texts of different lengths move nothing. */
        --line: 1.6em;
        font: var(--size-work) / var(--line) var(--face-data);
        height: calc(9 * var(--line) + var(--space-2));
        padding: 0 var(--space-3);
        overflow-y: auto;
        white-space: pre-wrap;
        overflow-wrap: anywhere;
        border: 1px solid var(--rule);
        border-radius: var(--corner);
        background: repeating-linear-gradient(
            to bottom,
            transparent 0 calc(var(--line) - 1px),
            var(--rule) calc(var(--line) - 1px) var(--line)
          )
          local var(--sheet);
      }
      .prompt {
        background: var(--accent-wash);
        color: var(--accent);
        font-weight: 600;
        border-radius: 2px;
      }
      .empty {
        font-family: var(--face-work);
      }
      .foot {
        display: flex;
        flex-wrap: wrap;
        align-items: center;
        justify-content: space-between;
        gap: var(--space-1) var(--space-4);
        margin-top: var(--space-2);
      }
      label {
        display: flex;
        align-items: center;
        gap: var(--space-2);
      }
      input[type='range'] {
        width: 110px;
      }
      output {
        min-width: 3ch;
      }
    `,
  ];

  sample: SessionState['sample'] = null;
  temperature = 0.8;
  /** A token is a character. */
  isByCharacter = true;

  #slide(event: Event): void {
    this.temperature = Number((event.target as HTMLInputElement).value);
    this.dispatchEvent(new CustomEvent<number>('temperature', { detail: this.temperature }));
  }

  override render(): unknown {
    const { sample } = this;
    return html`<section aria-label="Sample">
      <panel-header heading="Sample">
        The model continues the marked beginning, one ${this.isByCharacter ? 'character' : 'token, a piece of a word,'} at a time, each drawn from what it thinks likely.
        Temperature 0 always takes the likeliest; higher lets unlikely ones through. No text here was written by a person but
        the marked part.
        <span slot="tools" class="small soft data" data-testid="sample-step">
          ${sample === null ? '' : `step ${formatInteger(sample.step)}${sample.own ? '' : ', from the coordinator'}`}
        </span>
      </panel-header>
      <div class="sheet" data-testid="sample-text" tabindex="0" role="group" aria-label="Text the model wrote">${
        sample === null
          ? html`<span class="soft empty">The first sample comes a few seconds after training starts.</span>`
          : html`<mark class="prompt">${sample.prompt}</mark>${sample.text}`
      }</div>
      <div class="foot">
        <label>
          Temperature
          <input
            type="range"
            min="0"
            max="1.5"
            step="0.1"
            data-testid="temperature"
            aria-valuetext="${this.temperature.toFixed(1)}, ${temperatureInWords(this.temperature)}"
            .value=${String(this.temperature)}
            @input=${(event: Event) => this.#slide(event)}
          />
          <output class="data">${this.temperature.toFixed(1)}</output>
        </label>
        <span class="small soft">${temperatureInWords(this.temperature)}</span>
      </div>
    </section>`;
  }
}

customElements.define('sample-panel', SamplePanel);
