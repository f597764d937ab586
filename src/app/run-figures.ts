/** What a run with these settings would be: parameters, memory, tokens, and the loss that guessing starts at. */
import { LitElement, css, html } from 'lit';
import type { RunEstimate } from '../session/types.ts';
import { baseStyles } from './base-styles.ts';
import { formatBytes, formatInteger, formatLoss, formatMaybe, formatParameters } from './format.ts';

export class RunFigures extends LitElement {
  static override properties = { estimate: { attribute: false } };

  static override styles = [
    baseStyles,
    css`
      dl {
        margin: 0;
        display: grid;
        grid-template-columns: 1fr auto;
      }
      div {
        display: grid;
        grid-column: 1 / -1;
        grid-template-columns: subgrid;
        align-items: baseline;
        padding: 5px 0;
        border-bottom: 1px solid var(--rule);
      }
      dt {
        color: var(--ink-soft);
      }
      dd {
        margin: 0;
        min-width: 9ch;
        text-align: right;
        font-family: var(--face-data);
        font-variant-numeric: tabular-nums;
      }
    `,
  ];

  estimate: RunEstimate | null = null;

  override render(): unknown {
    const { estimate } = this;
    const row = (name: string, testId: string, value: number | undefined, format: (value: number) => string): unknown =>
      html`<div>
        <dt>${name}</dt>
        <dd data-testid=${testId}>${formatMaybe(value, format)}</dd>
      </div>`;
    return html`<dl>
      ${row('Parameters', 'parameter-count', estimate?.parameterCount, formatParameters)}
      ${row('Memory on this device', 'memory', estimate?.memoryBytes, formatBytes)}
      ${row('Text, characters', 'characters', estimate?.characters, formatInteger)}
      ${estimate?.isByCharacter === false
        ? row(estimate.tokens === null ? 'Different tokens V, at most' : 'Different tokens V', 'vocabulary', estimate.vocabularySize, formatInteger)
        : row('Distinct characters V', 'vocabulary', estimate?.vocabularySize, formatInteger)}
      ${row('Tokens per step', 'tokens-per-step', estimate?.tokensPerStep, formatInteger)}
      ${row('Steps', 'planned-steps', estimate?.settings.steps, formatInteger)}
      ${row('Expected first loss, ln V', 'expected-loss', estimate?.expectedInitialLoss, formatLoss)}
    </dl>`;
  }
}

customElements.define('run-figures', RunFigures);
