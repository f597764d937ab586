/** After a room: what was reached, where it is kept, and the ways on. */
import { LitElement, css, html, nothing } from 'lit';
import type { SessionState } from '../session/types.ts';
import { baseStyles } from './base-styles.ts';
import { formatDuration, formatInteger, formatLoss, formatMaybe } from './format.ts';
import './loss-panel.ts';
import './problem-banner.ts';

function headline({ phase, problem }: SessionState): string {
  if (phase !== 'stopped') return 'You left the room.';
  return problem === null || problem.code === 'room-closed' ? 'The room was closed.' : 'You are not in the room.';
}

/** @fires home, rejoin */
export class EndScreen extends LitElement {
  static override properties = { state: { attribute: false } };

  static override styles = [
    baseStyles,
    css`
      .hero {
        display: grid;
        gap: var(--space-4);
        padding: var(--space-6) 0;
      }
      h1 {
        font-size: var(--size-title);
        line-height: 1.15;
      }
      dl {
        display: flex;
        flex-wrap: wrap;
        gap: var(--space-3) var(--space-6);
        margin: 0;
      }
      dt {
        font-size: var(--size-small);
        color: var(--ink-soft);
      }
      dd {
        margin: 0;
        font: 500 var(--size-figure) / 1.3 var(--face-data);
      }
      .row {
        display: flex;
        flex-wrap: wrap;
        gap: var(--space-2);
      }
    `,
  ];

  state!: SessionState;

  #whereItIs(): string {
    const { role, lastCheckpoint, phase, problem } = this.state;
    if (lastCheckpoint !== null) {
      return `The run is saved in this browser at step ${formatInteger(lastCheckpoint.step)}. Open this page again, even tomorrow, and choose it under “Continue”.`;
    }
    if (phase === 'stopped' && problem?.code === 'room-closed') return 'The run is saved in the browsers that have led it or kept its state.';
    if (role === 'coordinator') return 'The run was too short to be saved.';
    if (phase === 'stopped' && problem?.code === 'removed') return 'The room goes on without this browser.';
    // Turned away at the door, for a key or a version.
    if (phase === 'stopped' && problem !== null && problem.code !== 'room-stopped') return 'The room goes on without this tab.';
    if (phase === 'stopped') return 'Whoever started it has ended the room; the run is saved in their browser.';
    return 'The room goes on without this tab; the run is saved in the browser that leads it.';
  }

  #fire(type: 'home' | 'rejoin'): void {
    this.dispatchEvent(new Event(type));
  }

  override render(): unknown {
    const { state } = this;
    const cell = (name: string, value: string): unknown =>
      html`<div>
        <dt>${name}</dt>
        <dd>${value}</dd>
      </div>`;
    return html`
      <div class="hero" data-testid="ended">
        <h1>${headline(state)}</h1>
        ${state.problem === null ? nothing : html`<problem-banner .problem=${state.problem}></problem-banner>`}
        <p class="soft">${state.title}</p>
        <dl>
          ${cell('Steps', `${formatInteger(state.step)} of ${formatInteger(state.steps)}`)}
          ${cell('Loss', formatMaybe(state.loss, formatLoss))}
          ${cell('Validation loss', formatMaybe(state.validationLoss, formatLoss))}
          ${cell('Time', formatDuration(state.elapsedMs))}
        </dl>
        <p class="read" data-testid="where-saved">${this.#whereItIs()}</p>
        <div class="row">
          <button class="primary" data-testid="home" @click=${() => this.#fire('home')}>Back to the start</button>
          ${state.role === 'coordinator' || state.phase === 'stopped'
            ? nothing
            : html`<button data-testid="rejoin" @click=${() => this.#fire('rejoin')}>Join again</button>`}
        </div>
      </div>
      ${state.history.length === 0
        ? nothing
        : html`<loss-panel
            heading="What was reached"
            .history=${state.history}
            .expectedInitialLoss=${state.expectedInitialLoss}
            .runTitle=${state.title}
            ?hasLocalSteps=${(state.settings?.localSteps ?? 1) > 1}
            .isByCharacter=${state.isByCharacter}
          ></loss-panel>`}
    `;
  }
}

customElements.define('end-screen', EndScreen);
