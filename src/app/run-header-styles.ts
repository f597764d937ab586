/** The look of the instrument strip. */
import { css } from 'lit';

export const runHeaderStyles = css`
  :host {
    padding: var(--space-4) 0 var(--space-5);
  }
  .top {
    display: flex;
    flex-wrap: wrap;
    align-items: flex-end;
    justify-content: space-between;
    gap: var(--space-3) var(--space-5);
  }
  h1 {
    font-size: clamp(1.35rem, 1.1rem + 1.2vw, 1.9rem);
    overflow-wrap: anywhere;
  }
  .phase {
    font-weight: 600;
    color: var(--ink);
  }
  .phase::before {
    content: '';
    display: inline-block;
    width: 9px;
    height: 9px;
    margin-right: 7px;
    border: 2px solid var(--ink-soft);
    border-radius: 50%;
  }
  .phase.good::before {
    background: var(--accent);
    border-color: var(--accent);
  }
  .phase.busy::before {
    border-color: var(--warn);
    background: var(--warn);
  }
  .phase.bad::before {
    border-color: var(--bad);
    background: var(--bad);
  }
  .controls {
    display: flex;
    gap: var(--space-2);
  }
  .cells {
    display: grid;
    grid-template-columns: 1.5fr repeat(6, 1fr);
    margin: var(--space-4) 0 0;
    border-top: 2px solid var(--ink);
  }
  .cells > div {
    padding: var(--space-2) var(--space-3);
    border-left: 1px solid var(--rule);
    min-width: 0;
  }
  .cells > div:first-child {
    padding-left: 0;
    border-left: 0;
  }
  dt {
    font-size: var(--size-small);
    color: var(--ink-soft);
  }
  dd {
    margin: 0;
    font: 500 1.15rem / 1.5 var(--face-data);
    font-variant-numeric: tabular-nums;
    white-space: nowrap;
  }
  .unit {
    font: var(--size-small) / 1 var(--face-work);
    color: var(--ink-soft);
  }
  .wide dd,
  .wide + div dd {
    font-size: var(--size-figure);
    line-height: 1.2;
  }
  .ruler {
    --tick: var(--rule-strong);
    position: relative;
    height: 18px;
    margin-top: var(--space-2);
    border-bottom: 1.5px solid var(--ink);
    background:
      repeating-linear-gradient(to right, var(--tick) 0 1px, transparent 1px 10%) 0 100% / 100% 12px no-repeat,
      repeating-linear-gradient(to right, var(--tick) 0 1px, transparent 1px 2%) 0 100% / 100% 6px no-repeat;
  }
  .ruler::after {
    content: '';
    position: absolute;
    right: 0;
    bottom: 0;
    width: 1px;
    height: 12px;
    background: var(--tick);
  }
  .ruler i {
    position: absolute;
    left: 0;
    bottom: -1.5px;
    height: 5px;
    background: var(--accent);
  }
  .ruler b {
    position: absolute;
    bottom: 5px;
    width: 0;
    height: 0;
    margin-left: -5px;
    border: 5px solid transparent;
    border-bottom-width: 0;
    border-top: 7px solid var(--accent);
  }
  .marks {
    display: flex;
    justify-content: space-between;
    min-height: 1.5em;
  }
  .status {
    min-height: 1.5em;
    margin-top: var(--space-1);
  }
  .status.bad {
    color: var(--bad);
    font-weight: 600;
  }
  @media (max-width: 980px) {
    .cells {
      grid-template-columns: repeat(4, 1fr);
    }
    .cells > div {
      border-left: 0;
      padding-left: 0;
    }
  }
  @media (max-width: 600px) {
    .cells {
      grid-template-columns: repeat(3, 1fr);
    }
    .cells .wide {
      grid-column: 1 / -1;
    }
    .cells > div {
      padding: var(--space-1) 0;
    }
    .cells dd,
    .cells .wide + div dd {
      font-size: 1rem;
      line-height: 1.5;
    }
    .cells .wide dd {
      font-size: var(--size-figure);
    }
    .controls {
      width: 100%;
    }
    .controls button {
      flex: 1;
    }
    .status {
      min-height: 3em;
    }
  }
`;
