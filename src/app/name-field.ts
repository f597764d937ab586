/** The name others see in the room; remembered in this browser. */
import { LitElement, css, html } from 'lit';
import { baseStyles } from './base-styles.ts';
import { maxNameLength, rememberName } from './preferences.ts';

/** @fires name - detail: string */
export class NameField extends LitElement {
  static override properties = { name: { type: String } };

  static override styles = [
    baseStyles,
    css`
      label {
        display: block;
        font-weight: 600;
        margin-bottom: var(--space-1);
      }
    `,
  ];

  name = '';

  #type(event: Event): void {
    const name = (event.target as HTMLInputElement).value;
    rememberName(name.trim());
    this.dispatchEvent(new CustomEvent<string>('name', { detail: name }));
  }

  override render(): unknown {
    return html`<label for="name">Your name in the room</label>
      <input
        id="name"
        data-testid="name"
        autocomplete="nickname"
        maxlength=${maxNameLength}
        .value=${this.name}
        @input=${(event: Event) => this.#type(event)}
      />`;
  }
}

customElements.define('name-field', NameField);
