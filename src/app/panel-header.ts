/**
 * A panel's heading and its "What am I looking at?": a note that opens over the panel, so that nothing moves. The note's
 * text is the element's content; a slot named "tools" takes controls that belong to the heading.
 */
import { LitElement, css, html } from 'lit';
import { baseStyles } from './base-styles.ts';

export class PanelHeader extends LitElement {
  static override properties = { heading: { type: String } };

  static override styles = [
    baseStyles,
    css`
      :host {
        position: relative;
        display: flex;
        flex-wrap: wrap;
        align-items: baseline;
        gap: var(--space-1) var(--space-3);
        margin-bottom: var(--space-3);
      }
      h2 {
        font-size: var(--size-head);
      }
      .tools {
        margin-left: auto;
        display: flex;
        flex-wrap: wrap;
        align-items: center;
        gap: var(--space-1) var(--space-3);
      }
      summary {
        cursor: pointer;
        list-style: none;
        font-size: var(--size-small);
        line-height: 24px;
        color: var(--ink-soft);
        text-decoration: underline dotted;
        text-underline-offset: 0.25em;
      }
      summary::-webkit-details-marker {
        display: none;
      }
      summary:hover {
        color: var(--accent);
      }
      .note {
        position: absolute;
        z-index: 3;
        inset: 100% 0 auto 0;
        margin-top: var(--space-1);
        padding: var(--space-3) var(--space-4);
        border: 1px solid var(--rule-strong);
        border-left: 3px solid var(--accent);
        border-radius: var(--corner);
        background: var(--sheet);
        font: var(--size-read) / 1.5 var(--face-read);
        max-width: 60ch;
      }
    `,
  ];

  heading = '';

  #closeOnEscape(event: KeyboardEvent): void {
    const details = event.currentTarget as HTMLDetailsElement;
    if (event.key !== 'Escape' || !details.open) return;
    details.open = false;
    details.querySelector('summary')?.focus();
  }

  #closeOnLeave(event: FocusEvent): void {
    const details = event.currentTarget as HTMLDetailsElement;
    if (event.relatedTarget instanceof Node && details.contains(event.relatedTarget)) return;
    details.open = false;
  }

  override render(): unknown {
    return html`
      <h2>${this.heading}</h2>
      <details
        @keydown=${(event: KeyboardEvent) => this.#closeOnEscape(event)}
        @focusout=${(event: FocusEvent) => this.#closeOnLeave(event)}
      >
        <summary>What is this?<span class="unseen"> About: ${this.heading}</span></summary>
        <div class="note"><slot></slot></div>
      </details>
      <div class="tools"><slot name="tools"></slot></div>
    `;
  }
}

customElements.define('panel-header', PanelHeader);
