/** What a step costs: where its time goes, what limits the room, and how many bytes went which way. */
import { LitElement, css, html, nothing } from 'lit';
import { styleMap } from 'lit/directives/style-map.js';
import type { SessionState } from '../session/types.ts';
import { baseStyles, panelStyles } from './base-styles.ts';
import { formatBytes, formatDuration, formatShare } from './format.ts';
import { SentSoFar, limitInWords, parts, sentAsInWords, stepMs, togetherInWords } from './step-words.ts';
import type { Pace } from './step-words.ts';
import './panel-header.ts';

export class StepPanel extends LitElement {
  static override properties = { state: { attribute: false } };

  static override styles = [
    baseStyles,
    panelStyles,
    css`
      .bar {
        display: flex;
        gap: 2px;
        height: 14px;
        margin-top: var(--space-2);
      }
      .bar i {
        min-width: 1px;
        border-radius: 1px;
      }
      .computeMs {
        background: var(--pen-train);
      }
      .wayMs {
        background: var(--pen-validation);
      }
      .applyMs {
        background: var(--pen-gradient);
      }
      .waitMs {
        background: var(--pen-rate);
      }
      ul {
        display: flex;
        flex-wrap: wrap;
        gap: 0 var(--space-4);
        margin: var(--space-2) 0;
        padding: 0;
        list-style: none;
        font-size: var(--size-small);
      }
      li i {
        display: inline-block;
        width: 10px;
        height: 10px;
        margin-right: 5px;
        border-radius: 1px;
      }
      dl {
        margin: var(--space-3) 0 0;
        display: grid;
        grid-template-columns: auto 1fr;
        gap: var(--space-1) var(--space-4);
      }
      dt {
        color: var(--ink-soft);
      }
      dd {
        margin: 0;
      }
    `,
  ];

  state!: SessionState;
  readonly #sent = new SentSoFar();

  #time(pace: Pace, workers: number): unknown {
    const total = stepMs(pace);
    if (total <= 0) return nothing;
    const { settings } = this.state;
    return html`
      <p class="small">A step takes <span class="data" data-testid="step-time" data-value=${total}>${formatDuration(total)}</span>, of which</p>
      <div class="bar" aria-hidden="true">
        ${parts.map(({ part }) => html`<i class=${part} style=${styleMap({ flex: `${Math.max(pace[part] / total, 0)} 0 0` })}></i>`)}
      </div>
      <ul data-testid="step-parts">
        ${parts.map(({ part, name }) => html`<li><i class=${part} aria-hidden="true"></i>${name} <span class="data" data-part=${part} data-value=${pace[part]}>${formatShare(pace[part] / total)}</span></li>`)}
      </ul>
      <p data-testid="limit">${limitInWords(pace, { settings, workers })}</p>
    `;
  }

  override render(): unknown {
    const { state } = this;
    const { upPerStep, downPerStep, inAll } = this.#sent.of(state.history);
    const together = togetherInWords(state);
    const workers = state.peers.filter(({ role }) => role !== 'watcher').length;
    const sentAs = sentAsInWords(state);
    return html`<section aria-label="What a step costs">
      <panel-header heading="What a step costs">
        A step is done when the last device’s gradients are added up, so the slowest counts. The bar shows that device’s time for
        computing, the way of weights to it and gradients back, the work of whoever leads, and the wait until whoever would lead
        next has the step, too. ↑ is what members send to whoever leads, ↓ what it sends to them.
      </panel-header>
      ${state.pace === null ? html`<p class="soft">Known after the first step.</p>` : this.#time(state.pace, workers)}
      <dl>
        ${together === null ? nothing : html`<dt>Together</dt><dd data-testid="together">${together}</dd>`}
        ${workers < 2 && inAll === 0
          ? nothing
          : html`<dt>Each step</dt>
              <dd class="data" data-testid="step-bytes">↑ ${formatBytes(upPerStep)} ↓ ${formatBytes(downPerStep)}</dd>
              <dt>In all</dt>
              <dd class="data" data-testid="bytes-in-all">${formatBytes(inAll)}</dd>`}
        ${sentAs === null ? nothing : html`<dt>Sent as</dt><dd data-testid="sent-as">${sentAs}</dd>`}
        ${(state.settings?.localSteps ?? 1) > 1 ? html`<dt>Local steps</dt><dd data-testid="local-steps">${state.settings?.localSteps} on each device in each of the room’s steps</dd>` : nothing}
      </dl>
    </section>`;
  }
}

customElements.define('step-panel', StepPanel);
