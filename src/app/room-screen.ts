/** The room: header, loss, sample, peers, invitation, log. Passes the state down and what people do up to the session. */
import { LitElement, css, html, nothing } from 'lit';
import { problemOf } from '../session/problems.ts';
import { changesInWords } from '../session/schedule.ts';
import type { SessionController, SessionState } from '../session/types.ts';
import { baseStyles } from './base-styles.ts';
import { formatDuration, formatInteger, formatLoss, formatMaybe, formatRate } from './format.ts';
import type { LeaveDialog } from './leave-dialog.ts';
import { openExport } from './open-export.ts';
import type { Problem } from './problem.ts';
import './invite-panel.ts';
import './leave-dialog.ts';
import './loss-panel.ts';
import './notice-log.ts';
import './owner-panel.ts';
import './peers-panel.ts';
import './problem-banner.ts';
import './run-header.ts';
import './sample-panel.ts';
import './step-panel.ts';

/** Sampling costs the trainer time: a moving slider asks once it rests. */
const temperatureDelayMs = 150;

export class RoomScreen extends LitElement {
  static override properties = { controller: { attribute: false }, state: { attribute: false }, own: { state: true } };

  static override styles = [
    baseStyles,
    css`
      .grid {
        display: grid;
        gap: var(--space-6);
        grid-template-columns: minmax(0, 1fr);
      }
      .main,
      .side {
        display: grid;
        gap: var(--space-6);
        align-content: start;
        min-width: 0;
      }
      .above > p,
      .above > .has-problem {
        margin-bottom: var(--space-4);
      }
      .note {
        padding: var(--space-2) var(--space-4);
        border-left: 4px solid var(--warn);
        background: var(--warn-wash);
      }
      .done {
        padding: var(--space-3) var(--space-4);
        border-left: 4px solid var(--accent);
        background: var(--accent-wash);
      }
      @media (max-width: 979px) {
        /* One column: what the model writes comes right after how well it does. */
        .main,
        .side {
          display: contents;
        }
        sample-panel {
          order: 1;
        }
        chat-panel {
          order: 2;
        }
        peers-panel {
          order: 3;
        }
        invite-panel,
        .save {
          order: 4;
        }
        step-panel {
          order: 5;
        }
        owner-panel {
          order: 6;
        }
        notice-log {
          order: 7;
        }
      }
      @media (min-width: 980px) {
        .grid {
          grid-template-columns: minmax(0, 1fr) 360px;
          gap: var(--space-6);
        }
      }
    `,
  ];

  controller!: SessionController;
  state!: SessionState;
  private own: Problem | null = null;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #asksForPlayground = false;

  override willUpdate(): void {
    // Only who has a model to try loads what it takes; where it can't be loaded, the room goes on without.
    if (!this.state.canGenerate || this.#asksForPlayground) return;
    this.#asksForPlayground = true;
    import('./chat-panel.ts').catch(() => {
      this.#asksForPlayground = false;
    });
  }

  override disconnectedCallback(): void {
    super.disconnectedCallback();
    clearTimeout(this.#timer);
  }

  #askToLeave(): void {
    this.renderRoot.querySelector<LeaveDialog>('leave-dialog')?.open();
  }

  async #leave(): Promise<void> {
    try {
      await this.controller.leave();
    } catch (error) {
      this.own = problemOf(error);
    }
  }

  /** Watchers have none, and members none before they have fetched it. */
  #hasReplica(): boolean {
    const { role, replicaHash } = this.state;
    return (role === 'coordinator' || role === 'member') && replicaHash !== null;
  }

  async #export(): Promise<void> {
    try {
      await openExport(this.controller.files, null, this.state.title);
    } catch (error) {
      this.own = problemOf(error);
    }
  }

  #setTemperature(event: CustomEvent<number>): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.controller.setSampleTemperature(event.detail), temperatureDelayMs);
  }

  #dismiss(): void {
    if (this.own === null) this.controller.dismissProblem();
    this.own = null;
  }

  #softwareNote(): unknown {
    const { device, role, ownTokensPerSecond } = this.state;
    if (device === null || !device.isSoftware || device.problem !== null || role === 'watcher') return nothing;
    const rate = ownTokensPerSecond > 0 ? ownTokensPerSecond : device.probeTokensPerSecond;
    return html`<p class="note" data-testid="software-note">
      This device has no GPU driver that the browser can use; it computes in software. Expect about ${formatRate(rate)} tokens
      per second.
    </p>`;
  }

  #lastChanges: Pick<SessionState, 'settings' | 'changes'> | null = null;
  #changesTold: ReturnType<typeof changesInWords> = [];
  /** The same list while it says the same, so that charts don't redraw for nothing. */
  #changes(): ReturnType<typeof changesInWords> {
    const { settings, changes } = this.state;
    if (settings === this.#lastChanges?.settings && changes === this.#lastChanges.changes) return this.#changesTold;
    this.#lastChanges = { settings, changes };
    this.#changesTold = settings === null ? [] : changesInWords(settings, changes);
    return this.#changesTold;
  }

  #finished(): unknown {
    const { state } = this;
    if (state.phase !== 'finished') return nothing;
    return html`<p class="done" data-testid="finished">
      <strong>Finished.</strong> ${formatInteger(state.steps)} steps in ${formatDuration(state.elapsedMs)}; the loss went from
      ${formatMaybe(state.history[0]?.loss, formatLoss)} to ${formatMaybe(state.loss, formatLoss)}. Samples still come from the
      trained model${state.lastCheckpoint === null ? '' : ', and it is saved in this browser'}.
    </p>`;
  }

  override render(): unknown {
    const { state } = this;
    const problem = this.own ?? state.problem;
    return html`
      <run-header
        .state=${state}
        @pause=${() => this.controller.pause()}
        @resume=${() => this.controller.resume()}
        @leave=${() => this.#askToLeave()}
      ></run-header>
      <div class="above">
        <problem-banner
          class=${problem === null ? '' : 'has-problem'}
          .problem=${problem}
          dismissible
          @dismiss=${() => this.#dismiss()}
        ></problem-banner>
        ${this.#finished()} ${this.#softwareNote()}
      </div>
      <div class="grid">
        <div class="main">
          <loss-panel .history=${state.history} .expectedInitialLoss=${state.expectedInitialLoss} .runTitle=${state.title} .bytesPerToken=${state.validationBytesPerToken} .changes=${this.#changes()}
            ?hasLocalSteps=${(state.settings?.localSteps ?? 1) > 1} .isByCharacter=${state.isByCharacter}></loss-panel>
          ${state.canGenerate || state.kept.length > 0
            ? html`<chat-panel .controls=${this.controller.writing} .state=${state}></chat-panel>`
            : nothing}
          <peers-panel .peers=${state.peers} .connections=${state.connections} .gone=${state.gone} .selfId=${state.selfId}></peers-panel>
          <step-panel .state=${state}></step-panel>
        </div>
        <div class="side">
          <invite-panel .link=${state.inviteLink ?? state.link ?? ''}></invite-panel>
          <sample-panel
            .sample=${state.sample}
            .temperature=${state.sampleTemperature}
            .isByCharacter=${state.isByCharacter}
            @temperature=${(event: CustomEvent<number>) => this.#setTemperature(event)}
          ></sample-panel>
          <p class="save"><button data-testid="save-model" ?disabled=${!this.#hasReplica()} @click=${() => void this.#export()}>Save the model…</button></p>
          ${state.isOwner ? html`<owner-panel .state=${state} .controls=${this.controller.owner}></owner-panel>` : nothing}
          <notice-log .notices=${state.notices}></notice-log>
        </div>
      </div>
      <leave-dialog .state=${state} @confirm=${() => void this.#leave()}></leave-dialog>
    `;
  }
}

customElements.define('room-screen', RoomScreen);
