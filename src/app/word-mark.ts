/** The name, one character to a square; the last one is the one being predicted. */
import { LitElement, css, html } from 'lit';

export class WordMark extends LitElement {
  static override styles = css`
    :host {
      display: inline-flex;
      font: 600 1rem / 1 var(--face-data);
      color: var(--ink);
    }
    span {
      display: grid;
      place-items: center;
      width: 1.5em;
      height: 1.7em;
      border: 1px solid var(--rule-strong);
      border-left-width: 0;
    }
    span:first-child {
      border-left-width: 1px;
      border-radius: var(--corner) 0 0 var(--corner);
    }
    span:last-child {
      border-color: var(--accent);
      border-radius: 0 var(--corner) var(--corner) 0;
      background: var(--accent);
      color: var(--on-accent);
    }
  `;

  override connectedCallback(): void {
    super.connectedCallback();
    this.setAttribute('role', 'img');
    this.setAttribute('aria-label', 'Cotrain');
  }

  override render(): unknown {
    return [...'cotrain'].map((letter) => html`<span aria-hidden="true">${letter}</span>`);
  }
}

customElements.define('word-mark', WordMark);
