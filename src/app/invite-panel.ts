/** The room's link, to copy or to scan, and what it gives to whoever has it. */
import { LitElement, css, html } from 'lit';
import { baseStyles, panelStyles } from './base-styles.ts';
import './panel-header.ts';
import './qr-code.ts';

const confirmationMs = 2500;

export class InvitePanel extends LitElement {
  static override properties = { link: { type: String }, copied: { state: true } };

  static override styles = [
    baseStyles,
    panelStyles,
    css`
      .grid {
        display: grid;
        grid-template-columns: 132px minmax(0, 1fr);
        gap: var(--space-3) var(--space-4);
        align-items: start;
      }
      .row {
        grid-column: 1 / -1;
        display: flex;
        gap: var(--space-2);
      }
      input {
        text-overflow: ellipsis;
        font: var(--size-small) / 1.4 var(--face-data);
      }
      button {
        flex: none;
        min-width: 6.5em;
      }
      .words {
        display: grid;
        gap: var(--space-2);
        justify-items: start;
      }
      .words button {
        min-height: 32px;
        padding: 0 var(--space-3);
        font-weight: 500;
      }
      dialog {
        width: min(94vw, 86vh);
        padding: var(--space-5);
        border: 0;
        border-radius: var(--corner);
        background: var(--sheet);
        color: var(--ink);
      }
      dialog::backdrop {
        background: rgb(0 0 0 / 60%);
      }
      dialog p {
        margin: var(--space-3) 0;
        overflow-wrap: anywhere;
      }
    `,
  ];

  link = '';
  private copied: 'no' | 'yes' | 'by-hand' = 'no';
  #timer: ReturnType<typeof setTimeout> | undefined;

  override disconnectedCallback(): void {
    super.disconnectedCallback();
    clearTimeout(this.#timer);
  }

  get #dialog(): HTMLDialogElement | null {
    return this.renderRoot.querySelector('dialog');
  }

  async #copy(): Promise<void> {
    try {
      await navigator.clipboard.writeText(this.link);
      this.copied = 'yes';
    } catch {
      // No clipboard on insecure pages or without permission: the link is selected, copying it is one key.
      this.renderRoot.querySelector<HTMLInputElement>('#link')?.select();
      this.copied = 'by-hand';
    }
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => (this.copied = 'no'), confirmationMs);
  }

  override render(): unknown {
    return html`<section aria-label="Invite">
      <panel-header heading="Invite">
        The link names the room and carries its secret key after the “#”, a part of an address that browsers never send to a
        server. Opening it on another machine is all it takes to join.
      </panel-header>
      <div class="grid">
        <div class="row">
          <label class="unseen" for="link">Room link</label>
          <input id="link" data-testid="room-link" readonly .value=${this.link} @focus=${(event: Event) => (event.target as HTMLInputElement).select()} />
          <button class="primary" data-testid="copy-link" @click=${() => void this.#copy()}>
            ${this.copied === 'yes' ? 'Copied ✓' : 'Copy link'}
          </button>
        </div>
        <qr-code data-testid="qr" .text=${this.link}></qr-code>
        <div class="words">
          <p class="small soft">
            Anyone with this link can join and help, or watch. They see the loss curve, the samples, everybody’s name and
            device, and get the pieces of text they compute with.
          </p>
          <button data-testid="qr-large" @click=${() => this.#dialog?.showModal()}>Show large</button>
        </div>
      </div>
      <dialog aria-label="QR code of the room link, large">
        <qr-code .text=${this.link}></qr-code>
        <p class="data small">${this.link}</p>
        <button data-testid="qr-close" @click=${() => this.#dialog?.close()}>Close</button>
      </dialog>
      <span class="unseen" role="status">
        ${this.copied === 'yes' ? 'Link copied.' : this.copied === 'by-hand' ? 'The link is selected: copy it by hand.' : ''}
      </span>
    </section>`;
  }
}

customElements.define('invite-panel', InvitePanel);
