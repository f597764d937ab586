/** Asks before leaving, and says what leaving will do. */
import { LitElement, css, html } from 'lit';
import type { SessionState } from '../session/types.ts';
import { baseStyles } from './base-styles.ts';
import { formatInteger } from './format.ts';

/** Who would lead when this tab, which does, is gone; null where nobody could. */
function followerOf({ role, peers }: SessionState): string | null {
  if (role !== 'coordinator') return null;
  return peers.find(({ succession }) => succession === 'ready')?.name ?? null;
}

function consequence(state: SessionState): string {
  const follower = followerOf(state);
  if (follower !== null) {
    return `${follower} takes over at step ${formatInteger(state.step)}, and the room goes on without you. The link lets you in again.`;
  }
  if (state.role === 'coordinator' && state.phase === 'finished') {
    return 'The run is finished; you find it again on the start page, under “Continue”. The room closes for everybody in it.';
  }
  if (state.role === 'coordinator') {
    const others = state.peers.length - 1;
    const forOthers = others > 0 ? ` It stops for ${others === 1 ? 'the other peer' : `the ${others} others`} too: nobody is ready to take over yet.` : '';
    return `The run stops at step ${formatInteger(state.step)} and is saved in this browser; you can continue it from the start page.${forOthers}`;
  }
  if (state.role === 'member') {
    return 'Work that this device has begun is handed back, and the room goes on without you. The link lets you in again.';
  }
  return 'The room goes on without you. The link lets you in again.';
}

/** @fires confirm */
export class LeaveDialog extends LitElement {
  static override properties = { state: { attribute: false } };

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

  state!: SessionState;

  /** Opened by its parent; a modal dialog has no other way. */
  open(): void {
    this.renderRoot.querySelector('dialog')?.showModal();
  }

  #close(isConfirmed: boolean): void {
    this.renderRoot.querySelector('dialog')?.close();
    if (isConfirmed) this.dispatchEvent(new Event('confirm'));
  }

  override render(): unknown {
    const stops = this.state.role === 'coordinator' && this.state.phase !== 'finished' && followerOf(this.state) === null;
    return html`<dialog aria-labelledby="question" aria-describedby="consequence">
      <h2 id="question">${stops ? 'Stop the run and leave?' : 'Leave the room?'}</h2>
      <p id="consequence" class="read">${consequence(this.state)}</p>
      <div class="row">
        <button class="primary" data-testid="confirm-leave" @click=${() => this.#close(true)}>
          ${stops ? 'Stop and leave' : 'Leave'}
        </button>
        <button data-testid="stay" @click=${() => this.#close(false)}>Stay</button>
      </div>
    </dialog>`;
  }
}

customElements.define('leave-dialog', LeaveDialog);
