/**
 * What only the room's owner can do: its name, its schedule, who leads and who may stay, its key and its end. Gives the orders
 * and says what came of each; what the orders do is not its affair.
 */
import { LitElement, css, html, nothing } from 'lit';
import { repeat } from 'lit/directives/repeat.js';
import { problemOf } from '../session/problems.ts';
import { scheduleOf } from '../session/schedule.ts';
import type { OwnerControls, ScheduleSettings, SessionState } from '../session/types.ts';
import { baseStyles, panelStyles } from './base-styles.ts';
import type { ConfirmDialog } from './confirm-dialog.ts';
import type { PeerRow } from './phases.ts';
import './confirm-dialog.ts';
import './panel-header.ts';

/** Asked before it is done, since it can't be undone. */
interface Question {
  readonly question: string;
  readonly consequence: string;
  readonly action: string;
  readonly order: () => Promise<unknown>;
  readonly done: string;
}

const scheduleFields = [
  { key: 'learningRate', label: 'Learning rate', testId: 'learning-rate', min: '1e-9', max: '10', step: 'any' },
  { key: 'minLearningRate', label: 'Lowest', testId: 'min-learning-rate', min: '0', max: '10', step: 'any' },
  { key: 'steps', label: 'Steps', testId: 'total-steps', min: '1', max: '10000000', step: '1' },
] as const satisfies readonly { readonly key: keyof ScheduleSettings; readonly [name: string]: string }[];

export class OwnerPanel extends LitElement {
  static override properties = {
    state: { attribute: false },
    controls: { attribute: false },
    isBusy: { state: true },
    outcome: { state: true },
    asked: { state: true },
  };

  static override styles = [
    baseStyles,
    panelStyles,
    css`
      section {
        display: grid;
        gap: var(--space-4);
      }
      panel-header {
        margin-bottom: 0;
      }
      form {
        display: grid;
        gap: var(--space-2);
      }
      label {
        display: grid;
        gap: 2px;
        min-width: 0;
        font-size: var(--size-small);
        color: var(--ink-soft);
      }
      input {
        color: var(--ink);
      }
      .row {
        display: flex;
        flex-wrap: wrap;
        gap: var(--space-2);
        align-items: end;
      }
      .row > label {
        flex: 1 1 8em;
      }
      .row > .narrow {
        flex: 1 1 5.5em;
      }
      ul {
        list-style: none;
        margin: 0;
        padding: 0;
      }
      li {
        display: flex;
        flex-wrap: wrap;
        gap: var(--space-1) var(--space-2);
        align-items: center;
        padding: var(--space-1) 0;
        border-bottom: 1px solid var(--rule);
      }
      .name {
        flex: 1 1 6em;
        min-width: 0;
        font-weight: 600;
        overflow-wrap: anywhere;
      }
      li button {
        min-height: 32px;
        padding: 0 var(--space-3);
        font-weight: 500;
      }
      .failed {
        color: var(--bad);
      }
    `,
  ];

  state!: SessionState;
  controls!: OwnerControls;
  private isBusy = false;
  private outcome: { readonly text: string; readonly hasFailed: boolean } | null = null;
  private asked: Question | null = null;

  async #give(order: () => Promise<unknown>, done: string): Promise<void> {
    this.isBusy = true;
    this.outcome = { text: 'On its way…', hasFailed: false };
    try {
      await order();
      this.outcome = { text: done, hasFailed: false };
    } catch (error) {
      const { message, whatToDo } = problemOf(error);
      this.outcome = { text: `${message} ${whatToDo}`, hasFailed: true };
    }
    this.isBusy = false;
  }

  async #ask(question: Question): Promise<void> {
    this.asked = question;
    await this.updateComplete;
    this.renderRoot.querySelector<ConfirmDialog>('confirm-dialog')?.open();
  }

  #confirmed(): void {
    const { asked } = this;
    if (asked !== null) void this.#give(asked.order, asked.done);
  }

  #rename(event: SubmitEvent): void {
    event.preventDefault();
    const title = this.#input('title').value.trim();
    if (title !== this.state.title) void this.#give(() => this.controls.rename(title), 'The room has its new name.');
  }

  #reschedule(event: SubmitEvent, now: ScheduleSettings): void {
    event.preventDefault();
    const given = scheduleFields.map(({ key }) => [key, this.#input(key).valueAsNumber] as const);
    const values: Partial<ScheduleSettings> = Object.fromEntries(given.filter(([key, value]) => Number.isFinite(value) && value !== now[key]));
    if (Object.keys(values).length === 0) this.outcome = { text: 'Nothing was changed.', hasFailed: false };
    else void this.#give(() => this.controls.reschedule(values), 'The schedule is changed; the chart says from which step on.');
  }

  #input(id: string): HTMLInputElement {
    const input = this.renderRoot.querySelector<HTMLInputElement>(`#${id}`);
    if (input === null) throw new Error(`owner-panel has no field ${id}`);
    return input;
  }

  #schedule(): unknown {
    const { settings, changes } = this.state;
    if (settings === null) return nothing;
    const now = scheduleOf(settings, changes, Infinity);
    return html`<form @submit=${(event: SubmitEvent) => this.#reschedule(event, now)}>
      <div class="row">
        ${scheduleFields.map(
          ({ key, label, testId, min, max, step }) =>
            html`<label class="narrow"
              >${label}
              <input id=${key} type="number" data-testid=${testId} required min=${min} max=${max} step=${step} .value=${String(now[key])}
            /></label>`,
        )}
      </div>
      <button data-testid="reschedule" ?disabled=${this.isBusy}>Change from the next step on</button>
    </form>`;
  }

  #peer(peer: PeerRow): unknown {
    const { id, name, role } = peer;
    const isSelf = id === this.state.selfId;
    const canLead = role === 'member' && peer.state !== 'leaving';
    return html`<li data-testid="owner-peer">
      <span class="name">${name}${isSelf ? ' (you)' : ''}</span>
      ${canLead
        ? html`<button
            data-testid="hand-over"
            ?disabled=${this.isBusy}
            @click=${() => void this.#give(() => this.controls.handOver(id), `${name} leads as soon as it has everything that this takes.`)}
          >
            Let ${isSelf ? 'me' : html`<span class="unseen">${name}</span>`} lead
          </button>`
        : nothing}
      ${isSelf || role === 'coordinator'
        ? nothing
        : html`<button class="danger" data-testid="remove-peer" ?disabled=${this.isBusy} @click=${() => void this.#ask(this.#removal(peer))}>
            Remove<span class="unseen"> ${name}</span>
          </button>`}
    </li>`;
  }

  #removal({ id, name }: PeerRow): Question {
    return {
      question: `Remove ${name}?`,
      consequence: `${name} is sent away at once, and the browser is not let in again, by whatever name. Whoever has the link could still come with another browser: renew the key to prevent that.`,
      action: 'Remove',
      order: () => this.controls.remove(id),
      done: `${name} is removed.`,
    };
  }

  readonly #renewal: Question = {
    question: 'Renew the room’s key?',
    consequence: 'Everybody who is in the room stays. The link as it is now lets nobody in any more, not even those who are away for a moment: give them the new one.',
    action: 'Renew the key',
    order: () => this.controls.renewKey(),
    done: 'The key is renewed: invite with the new link.',
  };

  readonly #closing: Question = {
    question: 'Close the room?',
    consequence: 'The run stops for everybody. It stays saved in the browsers that have led or kept it; only you can open the room again, from the start page.',
    action: 'Close the room',
    order: () => this.controls.close(),
    done: 'The room is closed.',
  };

  override render(): unknown {
    const { state, asked, outcome } = this;
    // Alone there is nobody to hand over to.
    const peers = state.peers.length > 1 ? state.peers : [];
    return html`<section aria-label="Your room" data-testid="owner-panel">
      <panel-header heading="Your room">
        You made this room, so its name, its schedule and who may be in it are yours to decide, from this browser, whoever leads.
        Everybody sees in the log what you did. The learning rate is the peak of the run’s schedule.
      </panel-header>
      <form class="row" @submit=${(event: SubmitEvent) => this.#rename(event)}>
        <label>Name <input id="title" data-testid="room-title" required maxlength="120" .value=${state.title} /></label>
        <button data-testid="rename-room" ?disabled=${this.isBusy}>Rename</button>
      </form>
      ${this.#schedule()}
      ${peers.length === 0
        ? nothing
        : html`<ul aria-label="Peers of your room">
            ${repeat(
              peers,
              ({ id }) => id,
              (peer) => this.#peer(peer),
            )}
          </ul>`}
      <div class="row">
        <button data-testid="renew-key" ?disabled=${this.isBusy} @click=${() => void this.#ask(this.#renewal)}>Renew the key</button>
        <button class="danger" data-testid="close-room" ?disabled=${this.isBusy} @click=${() => void this.#ask(this.#closing)}>Close the room</button>
      </div>
      <p class="small ${outcome?.hasFailed === true ? 'failed' : 'soft'}" role="status" data-testid="owner-outcome">${outcome?.text ?? ''}</p>
      <confirm-dialog
        .question=${asked?.question ?? ''}
        .consequence=${asked?.consequence ?? ''}
        .action=${asked?.action ?? ''}
        .refusal=${'Cancel'}
        @confirm=${() => this.#confirmed()}
      ></confirm-dialog>
    </section>`;
  }
}

customElements.define('owner-panel', OwnerPanel);
