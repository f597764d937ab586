/** One problem: what happened, what to do, and a way to put it aside where that is possible. */
import { LitElement, css, html, nothing } from 'lit';
import { baseStyles } from './base-styles.ts';
import type { Problem } from './problem.ts';

/** @fires dismiss */
export class ProblemBanner extends LitElement {
  static override properties = { problem: { attribute: false }, dismissible: { type: Boolean } };

  static override styles = [
    baseStyles,
    css`
      .banner {
        display: flex;
        align-items: flex-start;
        gap: var(--space-3);
        padding: var(--space-3) var(--space-4);
        border: 1px solid var(--bad);
        border-left-width: 4px;
        border-radius: var(--corner);
        background: var(--bad-wash);
      }
      .message {
        font-weight: 600;
        color: var(--bad);
        overflow-wrap: anywhere;
      }
      .words {
        flex: 1;
      }
      button {
        flex: none;
      }
    `,
  ];

  problem: Problem | null = null;
  dismissible = false;

  override render(): unknown {
    // The live region is always there, so that what appears in it is announced.
    return html`<div role="alert">
      ${this.problem === null
        ? nothing
        : html`<div class="banner" data-testid="problem" data-code=${this.problem.code}>
            <div class="words">
              <p class="message">${this.problem.message}</p>
              <p>${this.problem.whatToDo}</p>
            </div>
            ${this.problem.code === 'version-mismatch'
              ? html`<button class="plain" data-testid="reload" @click=${() => location.reload()}>Reload</button>`
              : nothing}
            ${this.dismissible
              ? html`<button class="plain" data-testid="dismiss-problem" @click=${() => this.dispatchEvent(new Event('dismiss'))}>
                  Dismiss
                </button>`
              : nothing}
          </div>`}
    </div>`;
  }
}

customElements.define('problem-banner', ProblemBanner);
