/** A question before what can't be undone: what it is, what comes of it, and two ways on. Knows nothing of rooms. */
import { LitElement, css, html } from 'lit';
import { baseStyles } from './base-styles.ts';

/** @fires confirm */
export class ConfirmDialog extends LitElement {
  static override properties = {
    question: { type: String },
    consequence: { type: String },
    action: { type: String },
    refusal: { type: String },
    testIds: { attribute: false },
  };

  static override styles = [
    baseStyles,
    css`
      dialog {
        max-width: min(440px, calc(100vw - 32px));
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
        margin-bottom: var(--space-2);
      }
      .row {
        display: flex;
        flex-wrap: wrap;
        gap: var(--space-2);
        margin-top: var(--space-5);
      }
    `,
  ];

  question = '';
  consequence = '';
  action = '';
  refusal = '';
  testIds: { readonly action: string; readonly refusal: string } = { action: 'confirm', refusal: 'refuse' };

  /** Opened by its parent; a modal dialog has no other way. */
  open(): void {
    this.renderRoot.querySelector('dialog')?.showModal();
  }

  #close(isConfirmed: boolean): void {
    this.renderRoot.querySelector('dialog')?.close();
    if (isConfirmed) this.dispatchEvent(new Event('confirm'));
  }

  override render(): unknown {
    return html`<dialog aria-labelledby="question" aria-describedby="consequence">
      <h2 id="question">${this.question}</h2>
      <p id="consequence" class="read">${this.consequence}</p>
      <div class="row">
        <button class="primary" data-testid=${this.testIds.action} @click=${() => this.#close(true)}>${this.action}</button>
        <button data-testid=${this.testIds.refusal} @click=${() => this.#close(false)}>${this.refusal}</button>
      </div>
    </dialog>`;
  }
}

customElements.define('confirm-dialog', ConfirmDialog);
