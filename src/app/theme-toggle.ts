/** Light, dark, or as the system has it; remembered in this browser. */
import { LitElement, css, html } from 'lit';
import { baseStyles } from './base-styles.ts';
import { chooseTheme, themeChoice } from './theme.ts';
import type { ThemeChoice } from './theme.ts';

const next: Record<ThemeChoice, ThemeChoice> = { system: 'light', light: 'dark', dark: 'system' };
const words: Record<ThemeChoice, string> = { system: 'System theme', light: 'Light theme', dark: 'Dark theme' };

export class ThemeToggle extends LitElement {
  static override properties = { choice: { state: true } };

  static override styles = [
    baseStyles,
    css`
      button {
        display: inline-flex;
        align-items: center;
        gap: var(--space-2);
        font-weight: 500;
      }
      .swatch {
        width: 14px;
        height: 14px;
        border: 1.5px solid currentColor;
        border-radius: 50%;
        background: linear-gradient(90deg, currentColor 50%, transparent 50%);
      }
      .swatch.light {
        background: none;
      }
      .swatch.dark {
        background: currentColor;
      }
    `,
  ];

  private choice: ThemeChoice = themeChoice();

  #turn(): void {
    this.choice = next[this.choice];
    chooseTheme(this.choice);
  }

  override render(): unknown {
    return html`<button class="plain" data-testid="theme" @click=${() => this.#turn()} title="Light, dark, or as the system has it">
      <span class="swatch ${this.choice}" aria-hidden="true"></span>
      ${words[this.choice]}
    </button>`;
  }
}

customElements.define('theme-toggle', ThemeToggle);
