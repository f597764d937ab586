/** The presets as a sheet of specimens, each text written one character to a square. A radio group. */
import { LitElement, css, html, nothing } from 'lit';
import { presets } from '../data/presets.ts';
import type { Preset } from '../data/presets.ts';
import type { PresetId } from '../session/types.ts';
import { baseStyles, squaredTextStyles } from './base-styles.ts';

/** Enough to fill a line on a wide screen. */
const specimenLength = 64;
/** The book itself is fetched only when it is chosen. */
const bookBeginning = 'Call me Ishmael. Some years ago—never mind how long precisely—ha';

function specimenOf({ text }: Preset): string | null {
  switch (text.kind) {
    case 'inline':
      return text.text.slice(0, specimenLength);
    case 'asset':
      return bookBeginning;
    case 'given':
      return null;
  }
}

/** @fires pick - detail: PresetId */
export class PresetPicker extends LitElement {
  static override properties = { picked: { type: String } };

  static override styles = [
    baseStyles,
    squaredTextStyles,
    css`
      fieldset {
        margin: 0;
        padding: 0;
        border: 0;
      }
      label {
        position: relative;
        display: grid;
        grid-template-columns: 20px 1fr;
        gap: 0 var(--space-3);
        padding: var(--space-3) var(--space-4);
        border: 1px solid var(--rule);
        margin-top: -1px;
        background: var(--sheet);
        cursor: pointer;
      }
      label:first-of-type {
        border-radius: var(--corner) var(--corner) 0 0;
      }
      label:last-of-type {
        border-radius: 0 0 var(--corner) var(--corner);
      }
      label:hover {
        border-color: var(--rule-strong);
        z-index: 1;
      }
      label:has(:checked) {
        z-index: 2;
        border-color: var(--accent);
        background: var(--accent-wash);
        box-shadow: inset 3px 0 0 var(--accent);
      }
      label:has(:focus-visible) {
        z-index: 2;
        outline: 2px solid var(--accent);
        outline-offset: 2px;
      }
      input {
        width: 18px;
        height: 18px;
        margin: 3px 0 0;
      }
      input:focus-visible {
        outline: none;
      }
      .title {
        display: block;
        font: 600 var(--size-lead) / 1.3 var(--face-read);
      }
      .about {
        display: block;
        color: var(--ink-soft);
      }
      .squared {
        margin-top: var(--space-2);
        line-height: 1.75em;
        color: var(--ink);
        max-width: 100%;
        mask-image: linear-gradient(to right, #000 75%, transparent);
      }
      .words {
        min-width: 0;
      }
    `,
  ];

  picked: PresetId = 'repeated-pattern';

  #card(card: Preset): unknown {
    const specimen = specimenOf(card);
    return html`<label data-testid="preset-${card.id}">
      <input
        type="radio"
        name="preset"
        value=${card.id}
        .checked=${card.id === this.picked}
        aria-describedby="${card.id}-words"
        @change=${() => this.dispatchEvent(new CustomEvent<PresetId>('pick', { detail: card.id }))}
      />
      <span class="words">
        <span class="title">${card.title}</span>
        <span class="about" id="${card.id}-words">${card.description}</span>
        ${specimen === null ? nothing : html`<div class="squared" aria-hidden="true">${specimen}</div>`}
      </span>
    </label>`;
  }

  override render(): unknown {
    return html`<fieldset>
      <legend class="unseen">What to train</legend>
      ${presets.map((card) => this.#card(card))}
    </fieldset>`;
  }
}

customElements.define('preset-picker', PresetPicker);
