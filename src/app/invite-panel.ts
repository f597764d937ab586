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
      a {
        font-weight: 600;
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
        <qr-code .text=${this.link}></qr-code>
        <p class="small soft">
          Anyone with this link can join and help, or watch. They see the loss curve, the samples, everybody’s name and device,
          and get the pieces of text they compute with.
        </p>
      </div>
      <span class="unseen" role="status">
        ${this.copied === 'yes' ? 'Link copied.' : this.copied === 'by-hand' ? 'The link is selected: copy it by hand.' : ''}
      </span>
    </section>`;
  }
}

customElements.define('invite-panel', InvitePanel);
