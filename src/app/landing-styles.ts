/** The landing screen's layout: two columns where there is room, one on a phone. */
import { css } from 'lit';

export const landingStyles = css`
  .hero {
    display: grid;
    gap: var(--space-5) var(--space-7);
    align-items: end;
    padding: var(--space-6) 0;
  }
  .words {
    display: grid;
    gap: var(--space-4);
  }
  h1 {
    font-size: var(--size-title);
    line-height: 1.15;
    letter-spacing: -0.01em;
    max-width: 24ch;
  }
  h2 {
    font-size: var(--size-head);
    margin-bottom: var(--space-3);
  }
  .has-problem {
    margin-bottom: var(--space-5);
  }
  .browser-problem {
    display: grid;
    gap: var(--space-2);
    margin-bottom: var(--space-5);
  }
  .columns {
    display: grid;
    gap: var(--space-6);
    grid-template-columns: minmax(0, 1fr);
    align-items: start;
  }
  .choice {
    display: grid;
    gap: var(--space-4);
  }
  .choice h2 {
    margin: 0;
  }
  .more {
    display: grid;
    gap: var(--space-6);
    grid-template-columns: repeat(auto-fit, minmax(min(100%, 300px), 1fr));
    align-items: start;
  }
  .start {
    display: grid;
    gap: var(--space-3);
  }
  .start h2 {
    margin: 0;
  }
  .go {
    min-height: 48px;
    font-size: 1.05rem;
  }
  form label {
    display: block;
    font-weight: 600;
    margin-bottom: var(--space-1);
  }
  .paste {
    display: flex;
    gap: var(--space-2);
    margin-bottom: var(--space-2);
  }
  .paste button {
    flex: none;
  }
  @media (max-width: 600px) {
    .hero {
      padding-top: var(--space-4);
    }
    curve-figure {
      display: none;
    }
  }
  @media (min-width: 900px) {
    .hero,
    .columns {
      grid-template-columns: minmax(0, 1fr) 340px;
    }
    .columns {
      gap: var(--space-6) var(--space-7);
      grid-template-rows: auto 1fr;
    }
    .start {
      grid-area: 1 / 2 / 3;
      /* Stays in sight while settings change what it says. */
      position: sticky;
      top: var(--space-4);
    }
  }
`;
