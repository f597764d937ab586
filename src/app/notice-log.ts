/** What just happened in the room, in plain sentences, newest first. */
import { LitElement, css, html } from 'lit';
import { repeat } from 'lit/directives/repeat.js';
import type { SessionState } from '../session/types.ts';
import { baseStyles, panelStyles } from './base-styles.ts';
import { formatClock } from './format.ts';
import './panel-header.ts';

/** More are in nobody's interest. */
const shownNotices = 30;

export class NoticeLog extends LitElement {
  static override properties = { notices: { attribute: false } };

  static override styles = [
    baseStyles,
    panelStyles,
    css`
      .log {
        max-height: 15em;
        min-height: 4.5em;
        overflow-y: auto;
      }
      ol {
        list-style: none;
        margin: 0;
        padding: 0;
      }
      li {
        display: grid;
        grid-template-columns: 5.5ch 1fr;
        gap: var(--space-2);
        padding: 3px 0;
      }
      time {
        font: var(--size-small) / 1.7 var(--face-data);
        color: var(--ink-soft);
      }
    `,
  ];

  notices: SessionState['notices'] = [];

  override render(): unknown {
    const newest = this.notices.slice(-shownNotices).reverse();
    return html`<section aria-label="Log">
      <panel-header heading="Log">
        Who came and went, what was saved, and what the room did about trouble. Newest first.
      </panel-header>
      <div class="log" role="log" aria-live="polite" aria-label="What just happened" data-testid="notices" tabindex="0">
        <ol>
          ${repeat(
            newest,
            (notice) => notice,
            (notice) => html`<li>
              <time datetime=${new Date(notice.atMs).toISOString()}>${formatClock(notice.atMs)}</time>
              <span>${notice.text}</span>
            </li>`,
          )}
        </ol>
      </div>
    </section>`;
  }
}

customElements.define('notice-log', NoticeLog);
