/**
 * Rows as the tokens that will be trained on: who says each, and how much the loss counts it. Not by colour alone: every run of one
 * speaker and weight has both in words. Tokenizes nothing itself. Load it when it is used.
 */
import { LitElement, css, html } from 'lit';
import type { PreviewRow, PreviewToken } from '../data/chats/tokenize.ts';
import { baseStyles, panelStyles } from './base-styles.ts';
import { formatInteger } from './format.ts';
import './panel-header.ts';
import { rowSummary, tokenRuns, visibleText } from './token-runs.ts';
import type { TokenRun } from './token-runs.ts';

/** More would be slow to lay out, and nobody reads them. */
const mostTokensShown = 2000;

const roleWords: Readonly<Record<PreviewToken['role'], string>> = {
  system: 'system',
  user: 'user',
  assistant: 'assistant',
  tool: 'tool',
  template: 'template',
  text: 'text',
};

function weightInWords(weight: number): string {
  return weight === 0 ? 'not scored' : weight === 1 ? 'scored' : `counts ${Number(weight.toPrecision(3))}`;
}

export class TokenPreview extends LitElement {
  static override properties = { rows: { attribute: false } };

  static override styles = [
    baseStyles,
    panelStyles,
    css`
      ol {
        list-style: none;
        margin: 0;
        padding: 0;
        display: grid;
        gap: var(--space-4);
      }
      .row {
        margin-top: var(--space-1);
        padding: var(--space-2) var(--space-3);
        max-height: 24em;
        overflow: auto;
        font: var(--size-work) / 2 var(--face-data);
        white-space: pre-wrap;
        overflow-wrap: anywhere;
        border: 1px solid var(--rule);
        border-radius: var(--corner);
        background: var(--sheet);
      }
      .run {
        --pen: var(--rule-strong);
      }
      .run.system {
        --pen: var(--pen-rate);
      }
      .run.user {
        --pen: var(--pen-train);
      }
      .run.assistant,
      .run.text {
        --pen: var(--accent);
      }
      .run.tool {
        --pen: var(--pen-gradient);
      }
      .name {
        padding: 0 var(--space-1);
        font: var(--size-small) / 1 var(--face-work);
        color: var(--ink-soft);
        user-select: none;
      }
      .token {
        border-bottom: 2px solid var(--pen);
        margin-right: 1px;
        color: var(--ink-soft);
      }
      .scored .token {
        color: var(--ink);
        /* The more it counts, the more of the wash; all of it from 1 on. */
        background: color-mix(in srgb, var(--accent-wash) calc(var(--share) * 100%), var(--sheet));
      }
      .strong .token {
        font-weight: 600;
      }
    `,
  ];

  rows: readonly PreviewRow[] = [];

  #run({ role, weight, tokens }: TokenRun): unknown {
    const classes = `run ${role} ${weight > 0 ? 'scored' : ''} ${weight > 1 ? 'strong' : ''}`;
    const name = `${roleWords[role]}, ${weightInWords(weight)}`;
    return html`<span class=${classes} style="--share: ${Math.min(1, 0.25 + 0.75 * weight)}"
      ><span class="name">${name}</span>${tokens.map((token) => html`<span class="token" title="token ${token.id}">${visibleText(token)}</span>`)}</span
    >`;
  }

  #row(row: PreviewRow): unknown {
    const { tokens, scored, weightSum } = rowSummary(row);
    const counted = `${formatInteger(scored)} of ${formatInteger(tokens)} tokens are scored, with a weight of ${Number(weightSum.toPrecision(4))}`;
    const left = tokens - mostTokensShown;
    return html`<li>
      <div class="small soft"><span class="data">${row.place}</span>: ${counted}</div>
      <div class="row" data-testid="token-row" tabindex="0" role="group" aria-label="Tokens of ${row.place}"
        >${tokenRuns(row, mostTokensShown).map((run) => this.#run(run))}</div
      >
      ${left > 0 ? html`<div class="small soft">${formatInteger(left)} more tokens are not shown.</div>` : ''}
    </li>`;
  }

  override render(): unknown {
    return html`<section aria-label="What will be scored">
      <panel-header heading="What will be scored">
        Rows of the data as tokens, as the model will read them. The line under a token says who speaks, its ground how much the
        loss counts the token when the model has to predict it.
      </panel-header>
      ${this.rows.length === 0 ? html`<p class="soft">There are no rows to show yet.</p>` : html`<ol>${this.rows.map((row) => this.#row(row))}</ol>`}
    </section>`;
  }
}

customElements.define('token-preview', TokenPreview);
