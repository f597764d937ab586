/** A person's own text: pasted, dropped or picked as a .txt file. Says what is wrong with a file; keeps the text in this tab. */
import { LitElement, css, html } from 'lit';
import { baseStyles } from './base-styles.ts';
import { formatInteger } from './format.ts';
import type { Problem } from './problem.ts';
import { normalizeLineEnds, readTextFile } from './text-file.ts';
import './problem-banner.ts';

/** @fires text - detail: string */
export class OwnText extends LitElement {
  static override properties = {
    text: { type: String },
    problem: { state: true },
    isOver: { state: true },
    fileName: { state: true },
  };

  static override styles = [
    baseStyles,
    css`
      .drop {
        border: 1.5px dashed var(--rule-strong);
        border-radius: var(--corner);
        padding: var(--space-4);
        background: var(--sheet);
      }
      .drop.over {
        border-color: var(--accent);
        background: var(--accent-wash);
      }
      label {
        font-weight: 600;
      }
      textarea {
        margin-top: var(--space-1);
        min-height: 9.5em;
        resize: vertical;
        font: var(--size-work) / 1.5 var(--face-data);
      }
      .row {
        display: flex;
        flex-wrap: wrap;
        align-items: center;
        gap: var(--space-2) var(--space-4);
        margin-top: var(--space-2);
      }
      problem-banner {
        margin-top: var(--space-2);
      }
    `,
  ];

  text = '';
  private problem: Problem | null = null;
  private isOver = false;
  private fileName: string | null = null;

  #emit(text: string): void {
    this.dispatchEvent(new CustomEvent<string>('text', { detail: text }));
  }

  async #take(file: File | undefined): Promise<void> {
    if (file === undefined) return;
    const result = await readTextFile(file);
    this.problem = result.problem;
    if (result.text === null) return;
    this.fileName = file.name;
    this.#emit(result.text);
  }

  #type(event: Event): void {
    this.problem = null;
    this.fileName = null;
    this.#emit(normalizeLineEnds((event.target as HTMLTextAreaElement).value));
  }

  #drop(event: DragEvent): void {
    event.preventDefault();
    this.isOver = false;
    void this.#take(event.dataTransfer?.files[0]);
  }

  #hover(event: DragEvent): void {
    event.preventDefault();
    this.isOver = true;
  }

  #pick(event: Event): void {
    const input = event.target as HTMLInputElement;
    void this.#take(input.files?.[0]);
    // The same file again is a new choice.
    input.value = '';
  }

  override render(): unknown {
    return html`
      <div
        class="drop ${this.isOver ? 'over' : ''}"
        data-testid="drop"
        @dragover=${(event: DragEvent) => this.#hover(event)}
        @dragleave=${() => (this.isOver = false)}
        @drop=${(event: DragEvent) => this.#drop(event)}
      >
        <label for="text">Your text</label>
        <textarea
          id="text"
          data-testid="own-text"
          spellcheck="false"
          placeholder="Paste a text here, or drop a .txt file. A few pages are enough to see it learn."
          .value=${this.text}
          @input=${(event: Event) => this.#type(event)}
        ></textarea>
        <div class="row">
          <button type="button" @click=${() => this.renderRoot.querySelector<HTMLInputElement>('#file')?.click()}>
            Choose a .txt file
          </button>
          <input id="file" class="unseen" type="file" accept=".txt,text/plain" tabindex="-1" aria-hidden="true" data-testid="file"
            @change=${(event: Event) => this.#pick(event)} />
          <span class="soft small" aria-live="polite">
            ${this.text === '' ? '' : `${this.fileName ?? 'Pasted'}: ${formatInteger(this.text.length)} characters`}
          </span>
        </div>
      </div>
      <problem-banner .problem=${this.problem}></problem-banner>
    `;
  }
}

customElements.define('own-text', OwnText);
