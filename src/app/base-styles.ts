/** Styles that several elements share, each part adopted by the elements that use it. No colours or sizes of its own. */
import { css } from 'lit';

/** Text, focus and controls. */
export const baseStyles = css`
  :host {
    display: block;
    font: var(--size-work) / 1.5 var(--face-work);
    color: var(--ink);
  }
  :host([hidden]) {
    display: none;
  }
  *,
  *::before,
  *::after {
    box-sizing: border-box;
  }
  h1,
  h2,
  h3 {
    margin: 0;
    font-family: var(--face-read);
    font-weight: 600;
    line-height: 1.25;
    text-wrap: balance;
  }
  p {
    margin: 0;
  }
  .read {
    font: var(--size-read) / 1.55 var(--face-read);
    max-width: 62ch;
  }
  .soft {
    color: var(--ink-soft);
  }
  .small {
    font-size: var(--size-small);
  }
  .data {
    font-family: var(--face-data);
    font-variant-numeric: tabular-nums;
  }
  .unseen {
    position: absolute;
    width: 1px;
    height: 1px;
    overflow: hidden;
    clip-path: inset(50%);
    white-space: nowrap;
  }
  a {
    color: var(--accent);
    text-underline-offset: 0.2em;
  }
  :focus-visible {
    outline: 2px solid var(--accent);
    outline-offset: 2px;
  }
  button {
    font: 600 var(--size-work) / 1.2 var(--face-work);
    min-height: 40px;
    padding: 0 var(--space-4);
    border: 1px solid var(--rule-strong);
    border-radius: var(--corner);
    background: var(--sheet);
    color: var(--ink);
    cursor: pointer;
  }
  button:hover:not(:disabled) {
    border-color: var(--accent);
    color: var(--accent);
  }
  button.primary {
    background: var(--accent);
    border-color: var(--accent);
    color: var(--on-accent);
  }
  button.primary:hover:not(:disabled) {
    background: var(--accent-strong);
    border-color: var(--accent-strong);
    color: var(--on-accent);
  }
  button.danger {
    color: var(--bad);
  }
  button.danger:hover:not(:disabled) {
    border-color: var(--bad);
    color: var(--bad);
  }
  button.plain {
    min-height: 32px;
    padding: 0 var(--space-2);
    border-color: transparent;
    background: none;
    font-weight: 500;
    color: var(--ink-soft);
  }
  button:disabled {
    cursor: not-allowed;
    background: var(--well);
    border-color: var(--rule);
    color: var(--ink-soft);
  }
  input:not([type='range'], [type='radio'], [type='checkbox'], [type='file']),
  select,
  textarea {
    font: inherit;
    width: 100%;
    min-height: 40px;
    padding: var(--space-2) var(--space-3);
    border: 1px solid var(--rule-strong);
    border-radius: var(--corner);
    background: var(--sheet);
    color: var(--ink);
  }
  input[type='number'] {
    font-family: var(--face-data);
    font-variant-numeric: tabular-nums;
  }
  input::placeholder,
  textarea::placeholder {
    color: var(--ink-soft);
    opacity: 1;
  }
  input[type='range'],
  input[type='radio'],
  input[type='checkbox'] {
    accent-color: var(--accent);
  }
  @media (pointer: coarse) {
    /* iOS zooms into smaller fields. */
    input:not([type='range'], [type='radio'], [type='checkbox'], [type='file']),
    select,
    textarea {
      font-size: 16px;
    }
  }
`;

/** A part of a screen: a strong rule on top, a heading, then content. Sheets of a pad, not cards. */
export const panelStyles = css`
  section {
    border-top: 2px solid var(--ink);
    padding-top: var(--space-3);
  }
`;

/** Text written one character to a square, as on squared paper: it is how a model by character sees it. */
export const squaredTextStyles = css`
  .squared {
    --cell: 1.55ch;
    font-family: var(--face-data);
    letter-spacing: calc(var(--cell) - 1ch);
    background-image: linear-gradient(to right, var(--rule) 1px, transparent 1px);
    background-size: var(--cell) 100%;
    background-position-x: calc((1ch - var(--cell)) / 2);
    white-space: pre;
    overflow: hidden;
  }
`;
