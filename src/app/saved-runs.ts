/** Runs kept in this browser, to go on with, to save as a file or to delete. Deleting asks once, in place. */
import { LitElement, css, html } from 'lit';
import type { SavedRun } from '../session/types.ts';
import { baseStyles } from './base-styles.ts';
import { formatBytes, formatInteger, formatLoss, formatWhen } from './format.ts';

/** @fires continue-run, save-run, delete-run - detail: the room's id */
export class SavedRuns extends LitElement {
  static override properties = { runs: { attribute: false }, disabled: { type: Boolean }, asking: { state: true } };

  static override styles = [
    baseStyles,
    css`
      ul {
        list-style: none;
        margin: 0;
        padding: 0;
      }
      li {
        padding: var(--space-3) 0;
        border-bottom: 1px solid var(--rule);
      }
      .title {
        font: 600 var(--size-read) / 1.3 var(--face-read);
      }
      .row {
        display: flex;
        flex-wrap: wrap;
        gap: var(--space-2);
        margin-top: var(--space-2);
      }
    `,
  ];

  runs: readonly SavedRun[] = [];
  disabled = false;
  private asking: string | null = null;

  #fire(type: 'continue-run' | 'save-run' | 'delete-run', room: string): void {
    this.asking = null;
    this.dispatchEvent(new CustomEvent<string>(type, { detail: room }));
  }

  #row(run: SavedRun, nowMs: number): unknown {
    const loss = run.loss === null ? '' : ` · loss ${formatLoss(run.loss)}`;
    const actions =
      this.asking === run.room
        ? html`<span role="alert" class="row">
            <span>Delete this run for good?</span>
            <button class="danger" data-testid="confirm-delete" @click=${() => this.#fire('delete-run', run.room)}>Delete</button>
            <button @click=${() => (this.asking = null)}>Keep</button>
          </span>`
        : html`<button ?disabled=${this.disabled} data-testid="continue-run" @click=${() => this.#fire('continue-run', run.room)}>
              Continue<span class="unseen"> ${run.title}</span>
            </button>
            <button class="plain" data-testid="save-run" @click=${() => this.#fire('save-run', run.room)}>
              Save as a file…<span class="unseen"> ${run.title}</span>
            </button>
            <button class="plain" data-testid="delete-run" @click=${() => (this.asking = run.room)}>
              Delete<span class="unseen"> ${run.title}</span>
            </button>`;
    return html`<li data-testid="saved-run">
      <div class="title">${run.title}</div>
      <div class="data small">step ${formatInteger(run.step)} of ${formatInteger(run.steps)}${loss}</div>
      <div class="soft small">${formatBytes(run.bytes)}, saved ${formatWhen(run.savedAtMs, nowMs)}</div>
      <div class="row">${actions}</div>
    </li>`;
  }

  override render(): unknown {
    const nowMs = Date.now();
    return html`<ul>
      ${this.runs.map((run) => this.#row(run, nowMs))}
    </ul>`;
  }
}

customElements.define('saved-runs', SavedRuns);
