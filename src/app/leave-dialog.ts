/** Asks before leaving, and says what leaving will do. */
import { LitElement, html } from 'lit';
import type { SessionState } from '../session/types.ts';
import type { ConfirmDialog } from './confirm-dialog.ts';
import { formatInteger } from './format.ts';
import './confirm-dialog.ts';

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

const testIds = { action: 'confirm-leave', refusal: 'stay' };

/** @fires confirm */
export class LeaveDialog extends LitElement {
  static override properties = { state: { attribute: false } };

  state!: SessionState;

  /** Opened by its parent; a modal dialog has no other way. */
  open(): void {
    this.renderRoot.querySelector<ConfirmDialog>('confirm-dialog')?.open();
  }

  override render(): unknown {
    const stops = this.state.role === 'coordinator' && this.state.phase !== 'finished' && followerOf(this.state) === null;
    return html`<confirm-dialog
      .question=${stops ? 'Stop the run and leave?' : 'Leave the room?'}
      .consequence=${consequence(this.state)}
      .action=${stops ? 'Stop and leave' : 'Leave'}
      .refusal=${'Stay'}
      .testIds=${testIds}
      @confirm=${() => this.dispatchEvent(new Event('confirm'))}
    ></confirm-dialog>`;
  }
}

customElements.define('leave-dialog', LeaveDialog);
