/** The playground's looks. */
import { css } from 'lit';

export const chatStyles = css`
  form,
  .turns,
  .kept {
    display: grid;
    gap: var(--space-3);
  }
  .turns {
    margin-bottom: var(--space-4);
  }
  label.prompt {
    display: grid;
    gap: var(--space-1);
  }
  textarea.prompt {
    font: var(--size-work) / 1.5 var(--face-data);
    min-height: 72px;
    resize: vertical;
  }
  .actions {
    display: flex;
    flex-wrap: wrap;
    align-items: center;
    gap: var(--space-2) var(--space-4);
  }
  .actions label {
    display: flex;
    align-items: center;
    gap: var(--space-2);
    margin-left: auto;
  }
  .actions select {
    width: auto;
    max-width: 220px;
  }
  details > summary {
    cursor: pointer;
    line-height: 32px;
  }
  details > summary:hover {
    color: var(--accent);
  }
  .answers {
    display: grid;
    grid-template-columns: repeat(auto-fit, minmax(min(100%, 240px), 1fr));
    gap: var(--space-3);
  }
  .answer {
    min-width: 0;
    border: 1px solid var(--rule);
    border-radius: var(--corner);
    background: var(--sheet);
  }
  .answer h3 {
    display: flex;
    flex-wrap: wrap;
    justify-content: space-between;
    gap: 0 var(--space-3);
    padding: var(--space-1) var(--space-3);
    border-bottom: 1px solid var(--rule);
    font: 600 var(--size-small) / 1.6 var(--face-work);
  }
  .answer h3 .soft {
    font-weight: 400;
  }
  .text {
    min-height: 3.2em;
    max-height: 24em;
    overflow-y: auto;
    margin: 0;
    padding: var(--space-2) var(--space-3);
    font: var(--size-work) / 1.6 var(--face-data);
    white-space: pre-wrap;
    overflow-wrap: anywhere;
  }
  .text mark {
    background: var(--accent-wash);
    color: var(--accent);
    font-weight: 600;
    border-radius: 2px;
  }
  .asked {
    padding: var(--space-2) var(--space-3);
    border-left: 4px solid var(--accent);
    background: var(--accent-wash);
    white-space: pre-wrap;
    overflow-wrap: anywhere;
  }
  .kept ul {
    display: grid;
    gap: var(--space-1);
    list-style: none;
    margin: 0;
    padding: 0;
  }
  .kept li {
    display: flex;
    flex-wrap: wrap;
    align-items: center;
    justify-content: space-between;
    gap: var(--space-1) var(--space-3);
  }
  .keep {
    display: grid;
    grid-template-columns: minmax(0, 1fr) auto;
    gap: var(--space-2);
    align-items: end;
  }
  .error {
    margin-bottom: var(--space-3);
    padding: var(--space-2) var(--space-3);
    border-left: 4px solid var(--bad);
    background: var(--bad-wash);
  }
`;
