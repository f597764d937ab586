/** How far a text is tokenized before its run starts, and the way to call that off. */
import { LitElement, css, html, nothing } from 'lit';
import type { SessionState } from '../session/types.ts';
import { baseStyles } from './base-styles.ts';

type Progress = NonNullable<SessionState['tokenizing']>;

const stageWords: Record<Progress['stage'], string> = {
  counting: 'Counting the words of the text',
  learning: 'Learning which pieces of words are frequent',
  encoding: 'Cutting the text into tokens',
};

/** @fires cancel */
export class TokenizingProgressElement extends LitElement {
  static override properties = { progress: { attribute: false } };

  static override styles = [
    baseStyles,
    css`
      div {
        display: flex;
        align-items: center;
        gap: var(--space-3);
      }
      progress {
        flex: 1;
        accent-color: var(--accent);
      }
    `,
  ];

  progress: Progress | null = null;

  override render(): unknown {
    const { progress } = this;
    if (progress === null) return nothing;
    const words = stageWords[progress.stage];
    return html`<p class="small soft" role="status">${words}…</p>
      <div>
        <progress max="1" .value=${progress.share} aria-label=${words} data-testid="tokenizing"></progress>
        <button type="button" data-testid="cancel-tokenizing" @click=${() => this.dispatchEvent(new CustomEvent('cancel'))}>Cancel</button>
      </div>`;
  }
}

customElements.define('tokenizing-progress', TokenizingProgressElement);
