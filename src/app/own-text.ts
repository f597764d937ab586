/**
 * A person's own data: a text that is pasted or a small file, or files of any kind and folders, which are prepared in a worker. Says
 * what was recognised and what is wrong; everything stays in this browser.
 */
import { LitElement, css, html, nothing } from 'lit';
import type { Preparing } from '../session/prepare.ts';
import type { Objective } from '../data/chats/objective.ts';
import type { TextChoice } from '../data/tokenizer-choice.ts';
import type { PreparedData } from '../session/types.ts';
import { baseStyles } from './base-styles.ts';
import { droppedFiles, pickedFiles } from './chosen-files.ts';
import type { ChosenFile } from './chosen-files.ts';
import { formatBytes, formatInteger } from './format.ts';
import type { Problem } from './problem.ts';
import { isSmallText, normalizeLineEnds, readTextFile } from './text-file.ts';
import './problem-banner.ts';

/** @fires text - detail: string; data - detail: PreparedData or null, when there is none any more */
export class OwnText extends LitElement {
  static override properties = {
    text: { type: String },
    problem: { state: true },
    isOver: { state: true },
    fileName: { state: true },
    tokenizer: { attribute: false },
    objective: { state: true },
    data: { state: true },
    progress: { state: true },
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
  /** By what files are read; asked when they are. */
  tokenizer: () => Promise<TextChoice> = () => Promise.resolve({ kind: 'characters' });
  /** What is scored of conversations in files. */
  private objective: Objective = { kind: 'assistant' };
  #chosen: readonly ChosenFile[] = [];
  private problem: Problem | null = null;
  private isOver = false;
  private fileName: string | null = null;
  private data: PreparedData | null = null;
  /** How far the files are that are being prepared, in words; null while none are. */
  private progress: string | null = null;
  #preparing: Preparing | null = null;

  #emit(text: string): void {
    this.dispatchEvent(new CustomEvent<string>('text', { detail: text }));
  }

  #emitData(data: PreparedData | null): void {
    this.data = data;
    this.dispatchEvent(new CustomEvent<PreparedData | null>('data', { detail: data }));
  }

  override disconnectedCallback(): void {
    super.disconnectedCallback();
    this.#cancel();
  }

  #cancel(): void {
    this.#preparing?.cancel();
    this.#preparing = null;
    this.progress = null;
  }

  async #take(files: readonly ChosenFile[]): Promise<void> {
    const [first] = files;
    if (first === undefined) return;
    this.#cancel();
    this.problem = null;
    if (files.length > 1 || !isSmallText(first.blob)) {
      await this.#prepare(files);
      return;
    }
    const result = await readTextFile(first.blob);
    this.problem = result.problem;
    if (result.text === null) return;
    this.fileName = first.name;
    this.#chosen = [];
    this.#emitData(null);
    this.#emit(result.text);
  }

  /** The files again, as they are to be read now. */
  readAgain(): void {
    if (this.#chosen.length === 0) return;
    this.#cancel();
    this.problem = null;
    void this.#prepare(this.#chosen);
  }

  async #prepare(files: readonly ChosenFile[]): Promise<void> {
    this.progress = 'Reading…';
    const [{ prepareData }, { problemOf }] = await Promise.all([import('../session/prepare.ts'), import('../session/problems.ts')]);
    const total = files.reduce((sum, { blob }) => sum + blob.size, 0);
    this.#chosen = files;
    const reading = { tokenizer: await this.tokenizer(), objective: this.objective };
    const preparing = prepareData({ kind: 'files', files: [...files] }, reading, ({ stage, bytes, documents, tokens }) => {
      const share = total === 0 ? '' : ` (${Math.min(100, Math.round((100 * bytes) / total))} %)`;
      this.progress = stage === 'learning' ? `Reading ${formatBytes(total)}${share}` : `${formatInteger(documents)} documents, ${formatInteger(tokens)} tokens${share}`;
    });
    this.#preparing = preparing;
    try {
      const data = await preparing.done;
      if (data.preview.length > 0) await import('./token-preview.ts');
      if (this.#preparing !== preparing) return;
      this.#emit('');
      this.#emitData(data);
    } catch (error) {
      if (this.#preparing === preparing) this.problem = problemOf(error);
    } finally {
      if (this.#preparing === preparing) this.#cancel();
    }
  }

  #type(event: Event): void {
    this.problem = null;
    this.fileName = null;
    this.#chosen = [];
    if (this.data !== null) this.#emitData(null);
    this.#emit(normalizeLineEnds((event.target as HTMLTextAreaElement).value));
  }

  #drop(event: DragEvent): void {
    event.preventDefault();
    this.isOver = false;
    if (event.dataTransfer !== null) void droppedFiles(event.dataTransfer).then((files) => this.#take(files));
  }

  #hover(event: DragEvent): void {
    event.preventDefault();
    this.isOver = true;
  }

  #pick(event: Event): void {
    const input = event.target as HTMLInputElement;
    void this.#take(pickedFiles(input.files));
    // The same file again is a new choice.
    input.value = '';
  }

  #recognised(): string {
    if (this.progress !== null) return this.progress;
    if (this.data !== null) {
      const { title, documents, bytes, tokens } = this.data;
      return `${title}: ${formatInteger(documents)} ${documents === 1 ? 'document' : 'documents'}, ${formatBytes(bytes)}, ${formatInteger(tokens)} tokens`;
    }
    return this.text === '' ? '' : `${this.fileName ?? 'Pasted'}: ${formatInteger(this.text.length)} characters`;
  }

  #score(kind: string): void {
    this.objective = kind === 'assistant' ? { kind } : { kind: 'everything' };
    this.readAgain();
  }

  #conversations({ preview }: PreparedData): unknown {
    return html`<div class="row">
        <label for="objective">What is learned</label>
        <select id="objective" data-testid="objective" @change=${(event: Event) => this.#score((event.target as HTMLSelectElement).value)}>
          <option value="assistant" ?selected=${this.objective.kind === 'assistant'}>What the assistant says</option>
          <option value="everything" ?selected=${this.objective.kind === 'everything'}>Everything</option>
        </select>
        <span class="soft small">The first conversations, as the model will see them:</span>
      </div>
      <token-preview .rows=${preview}></token-preview>`;
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
          placeholder="Paste a text here, or drop files or a folder: text, JSON, CSV or Parquet. A few pages are enough to see it learn."
          .value=${this.text}
          @input=${(event: Event) => this.#type(event)}
        ></textarea>
        <div class="row">
          <button type="button" @click=${() => this.renderRoot.querySelector<HTMLInputElement>('#file')?.click()}>Choose files</button>
          <button type="button" @click=${() => this.renderRoot.querySelector<HTMLInputElement>('#folder')?.click()}>Choose a folder</button>
          <input id="file" class="unseen" type="file" multiple tabindex="-1" aria-hidden="true" data-testid="file" @change=${(event: Event) => this.#pick(event)} />
          <input id="folder" class="unseen" type="file" webkitdirectory tabindex="-1" aria-hidden="true" data-testid="folder" @change=${(event: Event) => this.#pick(event)} />
          <span class="soft small" aria-live="polite" data-testid="own-data">${this.#recognised()}</span>
          ${this.progress === null ? nothing : html`<button type="button" data-testid="cancel-data" @click=${() => this.#cancel()}>Cancel</button>`}
        </div>
      </div>
      <problem-banner .problem=${this.problem}></problem-banner>
      ${this.data === null || this.data.preview.length === 0 ? nothing : this.#conversations(this.data)}
    `;
  }
}

customElements.define('own-text', OwnText);
