/**
 * Opens a model or run from files, by drop or picker: says what they are, and what can be done with them. Loaded when a person asks
 * for it. What is done is the landing screen's.
 */
import { LitElement, css, html, nothing } from 'lit';
import { problemOf } from '../session/problems.ts';
import type { FileControls, GivenFiles } from '../session/types.ts';
import { baseStyles } from './base-styles.ts';
import { filesOfDrop } from './dropped-files.ts';
import { formatInteger } from './format.ts';
import type { Problem } from './problem.ts';
import './problem-banner.ts';

export interface ModelToUse {
  readonly files: readonly File[];
  readonly given: GivenFiles;
}

const kinds: Readonly<Record<GivenFiles['kind'], string>> = { 'hugging-face': 'a Hugging Face model', gguf: 'a GGUF file', run: 'a run file' };

/** @fires use-model - detail: ModelToUse. @fires run-kept */
export class OpenModel extends LitElement {
  static override properties = { opened: { state: true }, problem: { state: true }, isBusy: { state: true }, isOver: { state: true } };

  static override styles = [
    baseStyles,
    css`
      .drop {
        padding: var(--space-4);
        border: 1px dashed var(--rule-strong);
        border-radius: var(--corner);
      }
      .drop.over {
        background: var(--accent-wash);
      }
      .row {
        display: flex;
        flex-wrap: wrap;
        gap: var(--space-2);
        margin-top: var(--space-3);
      }
    `,
  ];

  files!: FileControls;
  private opened: ModelToUse | null = null;
  private problem: Problem | null = null;
  private isBusy = false;
  private isOver = false;

  async #busily(work: () => Promise<void>): Promise<void> {
    this.isBusy = true;
    this.problem = null;
    try {
      await work();
    } catch (error) {
      this.problem = problemOf(error);
    } finally {
      this.isBusy = false;
    }
  }

  async #open(files: readonly File[]): Promise<void> {
    if (files.length === 0) return;
    this.opened = null;
    await this.#busily(async () => {
      this.opened = { files, given: await this.files.open(files) };
    });
  }

  async #drop(event: DragEvent): Promise<void> {
    event.preventDefault();
    this.isOver = false;
    if (event.dataTransfer !== null) await this.#open(await filesOfDrop(event.dataTransfer));
  }

  #keep(): Promise<void> {
    return this.#busily(async () => {
      await this.files.keep();
      this.opened = null;
      this.dispatchEvent(new Event('run-kept'));
    });
  }

  #use(detail: ModelToUse): void {
    this.dispatchEvent(new CustomEvent<ModelToUse>('use-model', { detail }));
  }

  #found(opened: ModelToUse): unknown {
    const { kind, name, model, parameterCount, run } = opened.given;
    return html`<p data-testid="opened-model">
        <strong>${run?.title ?? name}</strong>: ${kinds[kind]} (${model.model_type}, ${formatInteger(parameterCount)} parameters,
        ${formatInteger(model.vocab_size)} tokens)${run === null ? '' : `, at step ${formatInteger(run.step)} of ${formatInteger(run.steps)}`}.
      </p>
      <div class="row">
        ${run?.isWhole === true
          ? html`<button class="primary" data-testid="keep-run" ?disabled=${this.isBusy} @click=${() => void this.#keep()}>Add to the saved runs</button>`
          : nothing}
        <button data-testid="use-model" ?disabled=${this.isBusy} @click=${() => this.#use(opened)}>Start a new run from it</button>
      </div>`;
  }

  override render(): unknown {
    return html`<div
        class="drop ${this.isOver ? 'over' : ''}"
        @dragover=${(event: DragEvent) => {
          event.preventDefault();
          this.isOver = true;
        }}
        @dragleave=${() => (this.isOver = false)}
        @drop=${(event: DragEvent) => void this.#drop(event)}
      >
        <label for="model-files">Drop a Hugging Face folder or its zip, a GGUF file or a saved run here, or choose files</label>
        <input
          id="model-files"
          type="file"
          multiple
          data-testid="model-files"
          ?disabled=${this.isBusy}
          @change=${(event: Event) => void this.#open([...((event.target as HTMLInputElement).files ?? [])])}
        />
      </div>
      <problem-banner .problem=${this.problem}></problem-banner>
      <div aria-live="polite">${this.isBusy ? html`<p role="status">Reading…</p>` : this.opened === null ? nothing : this.#found(this.opened)}</div>`;
  }
}

customElements.define('open-model', OpenModel);
