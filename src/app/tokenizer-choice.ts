/** How a text becomes tokens: by character, or in pieces of words that are learned from it. Emits the choice; makes nothing. */
import { LitElement, css, html, noChange, nothing } from 'lit';
import { bytesAndSpecialTokens, largestTrainedVocabulary } from '../data/tokenizer-choice.ts';
import type { TokenizerChoice } from '../data/tokenizer-choice.ts';
import { baseStyles } from './base-styles.ts';
import { formatInteger } from './format.ts';

/** Enough for common words of a book, and a table of tokens that small models can learn. */
const usualVocabulary = 2048;

/** @fires tokenizer - detail: TokenizerChoice, or null where the number typed can't be used */
export class TokenizerChoiceElement extends LitElement {
  static override properties = { choice: { attribute: false }, typed: { state: true } };

  static override styles = [
    baseStyles,
    css`
      .fields {
        display: grid;
        grid-template-columns: repeat(auto-fill, minmax(min(100%, 230px), 1fr));
        gap: var(--space-4) var(--space-5);
      }
      label {
        font-weight: 600;
      }
      .wrong {
        color: var(--bad);
      }
      [aria-invalid='true'] {
        border-color: var(--bad) !important;
      }
    `,
  ];

  choice: TokenizerChoice = { kind: 'characters' };
  /** What stands in the field when it is no usable number. */
  private typed: string | null = null;

  #emit(choice: TokenizerChoice | null): void {
    this.dispatchEvent(new CustomEvent<TokenizerChoice | null>('tokenizer', { detail: choice }));
  }

  #pick(event: Event): void {
    this.typed = null;
    this.#emit((event.target as HTMLSelectElement).value === 'bpe' ? { kind: 'bpe', vocabularySize: usualVocabulary } : { kind: 'characters' });
  }

  #type(event: Event): void {
    const { value } = event.target as HTMLInputElement;
    const vocabularySize = Number(value);
    const isUsable = value.trim() !== '' && Number.isInteger(vocabularySize) && vocabularySize >= bytesAndSpecialTokens && vocabularySize <= largestTrainedVocabulary;
    this.typed = isUsable ? null : value;
    this.#emit(isUsable ? { kind: 'bpe', vocabularySize } : null);
  }

  override render(): unknown {
    const { choice, typed } = this;
    return html`<div class="fields">
      <div>
        <label for="kind">A token is</label>
        <select id="kind" aria-describedby="kind-help" data-testid="tokenizer-kind" @change=${(event: Event) => this.#pick(event)}>
          <option value="characters" ?selected=${choice.kind === 'characters'}>a character</option>
          <option value="bpe" ?selected=${choice.kind === 'bpe'}>a piece of a word</option>
        </select>
        <p class="small soft" id="kind-help">What the model reads and writes one at a time. Pieces of words are learned from the text when the run starts.</p>
      </div>
      ${choice.kind === 'characters'
        ? nothing
        : html`<div>
            <label for="vocabulary">Tokens to learn</label>
            <input
              id="vocabulary"
              type="number"
              inputmode="numeric"
              min=${bytesAndSpecialTokens}
              max=${largestTrainedVocabulary}
              step="1"
              .value=${typed === '' ? noChange : (typed ?? String(choice.vocabularySize))}
              aria-describedby="vocabulary-help"
              aria-invalid=${typed === null ? 'false' : 'true'}
              data-testid="tokenizer-vocabulary"
              @input=${(event: Event) => this.#type(event)}
            />
            <p class="small ${typed === null ? 'soft' : 'wrong'}" id="vocabulary-help">
              ${typed === null
                ? 'More make the text shorter, and the model larger. A short text gives fewer.'
                : `Between ${formatInteger(bytesAndSpecialTokens)} and ${formatInteger(largestTrainedVocabulary)}, a whole number.`}
            </p>
          </div>`}
    </div>`;
  }
}

customElements.define('tokenizer-choice', TokenizerChoiceElement);
