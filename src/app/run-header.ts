/** The instrument strip of a room: title, phase, step on a ruler, loss, speeds, times, and the controls. */
import { LitElement, html, nothing } from 'lit';
import { styleMap } from 'lit/directives/style-map.js';
import type { SessionState } from '../session/types.ts';
import { baseStyles } from './base-styles.ts';
import { formatDuration, formatInteger, formatLoss, formatMaybe, formatParameters, formatRate, unknown } from './format.ts';
import { wordsFor } from './phases.ts';
import { runHeaderStyles } from './run-header-styles.ts';

/** @fires pause, resume, leave */
export class RunHeader extends LitElement {
  static override properties = { state: { attribute: false } };
  static override styles = [baseStyles, runHeaderStyles];

  state!: SessionState;

  #fire(type: 'pause' | 'resume' | 'leave'): void {
    this.dispatchEvent(new Event(type));
  }

  #controls(): unknown {
    const { phase, role } = this.state;
    const mayControl = role === 'coordinator' || role === 'member';
    const pauseOrResume =
      phase === 'paused'
        ? html`<button class="primary" data-testid="resume" ?disabled=${!mayControl} @click=${() => this.#fire('resume')}>Resume</button>`
        : html`<button data-testid="pause" ?disabled=${!mayControl || phase !== 'running'} @click=${() => this.#fire('pause')}>Pause</button>`;
    return html`<div class="controls">
      ${phase === 'finished' ? nothing : pauseOrResume}
      <button data-testid="leave" @click=${() => this.#fire('leave')}>Leave</button>
    </div>`;
  }

  #statusLine(): string {
    const { phase, signalling, lastCheckpoint, role } = this.state;
    const { waiting } = wordsFor(phase);
    if (waiting !== null) return waiting;
    const words: string[] = [];
    if (phase === 'paused') words.push('Paused: nothing is computed until someone resumes.');
    if (phase === 'finished') words.push('All steps are done.');
    if (signalling === 'offline') {
      words.push('The server is out of reach: training goes on, nobody new can join until it is back.');
    } else if (signalling === 'online') {
      words.push('Connected.');
    }
    if (lastCheckpoint !== null) words.push(`Saved in this browser at step ${formatInteger(lastCheckpoint.step)}.`);
    if (role === 'watcher') words.push('This device watches; it computes nothing.');
    return words.join(' ');
  }

  #ruler(): unknown {
    const { step, steps, lastCheckpoint } = this.state;
    const share = (value: number): string => `${steps > 0 ? Math.min(100, (100 * value) / steps).toFixed(2) : 0}%`;
    return html`<div
        class="ruler"
        role="progressbar"
        aria-label="Steps done"
        aria-valuemin="0"
        aria-valuemax=${Math.max(steps, 1)}
        aria-valuenow=${step}
        aria-valuetext="step ${step} of ${steps}"
        data-testid="progress"
      >
        <i style=${styleMap({ width: share(step) })}></i>
        ${lastCheckpoint === null
          ? nothing
          : html`<b style=${styleMap({ left: share(lastCheckpoint.step) })} title="Saved at step ${lastCheckpoint.step}"></b>`}
      </div>
      <div class="marks data small soft" aria-hidden="true">
        ${[0, 0.25, 0.5, 0.75, 1].map((part) => html`<span>${steps > 0 ? formatInteger(part * steps) : ''}</span>`)}
      </div>`;
  }

  #cell(name: string, value: string, testId: string, raw: number | null): unknown {
    return html`<div>
      <dt>${name}</dt>
      <dd data-testid=${testId} data-value=${raw ?? ''}>${value}</dd>
    </div>`;
  }

  override render(): unknown {
    const { state } = this;
    const { label, tone } = wordsFor(state.phase);
    const size = state.parameterCount === null ? '' : `${formatParameters(state.parameterCount)} parameters`;
    return html`
      <div class="top">
        <div class="title">
          <h1>${state.title === '' ? 'Training room' : state.title}</h1>
          <p class="soft">
            <span class="phase ${tone}" data-testid="phase" data-phase=${state.phase}>${label}</span>${size === '' ? '' : ` · ${size}`}
          </p>
        </div>
        ${this.#controls()}
      </div>
      <dl class="cells">
        <div class="wide">
          <dt>Step</dt>
          <dd>
            <span data-testid="step" data-value=${state.step}>${formatInteger(state.step)}</span
            ><span class="unit"> of ${state.steps === 0 ? unknown : formatInteger(state.steps)}</span>
          </dd>
        </div>
        ${this.#cell('Loss', formatMaybe(state.loss, formatLoss), 'loss', state.loss)}
        ${this.#cell('Validation', formatMaybe(state.validationLoss, formatLoss), 'validation-loss', state.validationLoss)}
        ${this.#cell('Room, tokens/s', formatRate(state.tokensPerSecond), 'room-rate', state.tokensPerSecond)}
        ${this.#cell('You, tokens/s', formatRate(state.ownTokensPerSecond), 'own-rate', state.ownTokensPerSecond)}
        ${this.#cell('Elapsed', formatDuration(state.elapsedMs), 'elapsed', state.elapsedMs)}
        ${this.#cell('Remaining', formatMaybe(state.remainingMs, formatDuration), 'remaining', state.remainingMs)}
      </dl>
      ${this.#ruler()}
      <p class="status ${tone === 'bad' ? 'bad' : ''}" role="status" data-testid="status-line">${this.#statusLine()}</p>
    `;
  }
}

customElements.define('run-header', RunHeader);
