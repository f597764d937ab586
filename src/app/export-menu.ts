/** A dialog that saves a model or run as a file: what there is, how large it becomes, how far it is. Loaded when it is opened. */
import { LitElement, css, html, nothing } from 'lit';
import { problemOf } from '../session/problems.ts';
import type { FileControls } from '../session/types.ts';
import { baseStyles } from './base-styles.ts';
import { formatBytes } from './format.ts';
import type { Problem } from './problem.ts';
import './problem-banner.ts';

type Choices = Awaited<ReturnType<FileControls['choices']>>;
type Choice = Choices[number];
type Format = Choice['format'];

/** Chromium's; absent elsewhere, and typed nowhere. */
interface SavePicker {
  showSaveFilePicker?: (options: { readonly suggestedName: string }) => Promise<FileSystemFileHandle>;
}

const numbers = { f32: '32-bit numbers, as trained', bf16: '16-bit, bfloat16', f16: '16-bit, half precision', q8_0: '8-bit, quantized' } as const;

function wordsOf(format: Format): { readonly title: string; readonly detail: string } {
  switch (format.kind) {
    case 'hf':
      return { title: 'Hugging Face folder (zip)', detail: numbers[format.type] };
    case 'gguf':
      return { title: 'GGUF, for llama.cpp', detail: numbers[format.type] };
    case 'run':
      return { title: 'Run file', detail: 'settings, curve, weights and what of the optimizer and text is here; opens in Cotrain' };
  }
}

function fileNameOf(title: string, format: Format): string {
  const name = title.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, '-').replace(/^-|-$/g, '') || 'model';
  switch (format.kind) {
    case 'hf':
      return `${name}-${format.type}.zip`;
    case 'gguf':
      return `${name}-${format.type}.gguf`;
    case 'run':
      return `${name}.cotrain.safetensors`;
  }
}

/** @fires closed */
export class ExportMenu extends LitElement {
  static override properties = {
    choices: { state: true },
    picked: { state: true },
    problem: { state: true },
    saving: { state: true },
    isDone: { state: true },
  };

  static override styles = [
    baseStyles,
    css`
      dialog {
        width: min(520px, calc(100vw - 32px));
        padding: var(--space-5);
        border: 1px solid var(--rule-strong);
        border-top: 3px solid var(--ink);
        border-radius: var(--corner);
        background: var(--sheet);
        color: var(--ink);
      }
      dialog::backdrop {
        background: rgb(0 0 0 / 45%);
      }
      h2 {
        font-size: var(--size-lead);
        margin-bottom: var(--space-3);
      }
      fieldset {
        margin: 0;
        padding: 0;
        border: 0;
      }
      label {
        display: grid;
        grid-template-columns: auto 1fr auto;
        gap: var(--space-1) var(--space-3);
        padding: var(--space-2) 0;
        border-bottom: 1px solid var(--rule);
      }
      progress {
        width: 100%;
        margin-top: var(--space-4);
      }
      .row {
        display: flex;
        flex-wrap: wrap;
        gap: var(--space-2);
        margin-top: var(--space-5);
      }
    `,
  ];

  files!: FileControls;
  /** A saved run's; null: the room that this page is in. */
  room: string | null = null;
  /** Of the run, for the file's name. */
  runTitle = '';
  private choices: Choices = [];
  private picked = 0;
  private problem: Problem | null = null;
  /** Bytes so far; null while nothing is being saved. */
  private saving: number | null = null;
  private isDone = false;
  #stop: AbortController | null = null;

  override firstUpdated(): void {
    this.renderRoot.querySelector('dialog')?.showModal();
    void this.#load();
  }

  async #load(): Promise<void> {
    try {
      this.choices = await this.files.choices(this.room);
    } catch (error) {
      this.problem = problemOf(error);
    }
  }

  async #save(choice: Choice): Promise<void> {
    const name = fileNameOf(this.runTitle, choice.format);
    this.problem = null;
    this.isDone = false;
    const stop = new AbortController();
    try {
      const picker = globalThis as SavePicker;
      const target = picker.showSaveFilePicker === undefined ? null : await picker.showSaveFilePicker({ suggestedName: name });
      this.#stop = stop;
      this.saving = 0;
      const onProgress = (bytes: number): void => {
        // It may come after the answer, which has a way of its own.
        if (this.#stop === stop) this.saving = bytes;
      };
      const blob = await this.files.save(choice.format, { room: this.room, target, signal: stop.signal, onProgress });
      if (blob !== null) download(blob, name);
      this.isDone = true;
    } catch (error) {
      // Whoever closed the picker, or cancelled, knows.
      const isOwnWish = stop.signal.aborted || (error instanceof DOMException && error.name === 'AbortError');
      if (!isOwnWish) this.problem = problemOf(error);
    } finally {
      this.saving = null;
      this.#stop = null;
    }
  }

  #close(): void {
    this.#stop?.abort();
    this.renderRoot.querySelector('dialog')?.close();
    this.dispatchEvent(new Event('closed'));
  }

  #choice(choice: Choice, index: number): unknown {
    const { title, detail } = wordsOf(choice.format);
    return html`<label>
      <input type="radio" name="format" data-testid="format" .checked=${this.picked === index} @change=${() => (this.picked = index)} />
      <span>${title}<br /><span class="soft small">${detail}</span></span>
      <span class="data small">about ${formatBytes(choice.bytes)}</span>
    </label>`;
  }

  override render(): unknown {
    const choice = this.choices[this.picked];
    const isSaving = this.saving !== null;
    return html`<dialog aria-labelledby="heading" @cancel=${() => this.#close()}>
      <h2 id="heading">Save the model</h2>
      <problem-banner .problem=${this.problem}></problem-banner>
      <fieldset ?disabled=${isSaving}>
        <legend class="unseen">As what</legend>
        ${this.choices.map((each, index) => this.#choice(each, index))}
      </fieldset>
      ${isSaving ? html`<progress aria-label="Written" .value=${this.saving ?? 0} .max=${choice?.bytes ?? 1}></progress>` : nothing}
      <p class="soft small" role="status">${isSaving ? `${formatBytes(this.saving ?? 0)} written` : this.isDone ? 'Saved.' : ''}</p>
      <div class="row">
        <button
          class="primary"
          data-testid="save-file"
          ?disabled=${isSaving || choice === undefined}
          @click=${() => void (choice === undefined ? undefined : this.#save(choice))}
        >
          Save
        </button>
        ${isSaving
          ? html`<button data-testid="cancel-save" @click=${() => this.#stop?.abort()}>Cancel</button>`
          : html`<button data-testid="close-save" @click=${() => this.#close()}>Close</button>`}
      </div>
    </dialog>`;
  }
}

/** The browser's own download, where a page can't write into a file. */
function download(blob: Blob, name: string): void {
  const url = URL.createObjectURL(blob);
  const link = document.createElement('a');
  link.href = url;
  link.download = name;
  link.click();
  // The download has its own hold on the bytes once it has begun.
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

customElements.define('export-menu', ExportMenu);
