/** A sketch on squared paper of what there will be to see: a loss that falls from guessing. Decoration with a lesson; no data. */
import { LitElement, css, html, svg } from 'lit';

const left = 12;
const right = 328;
const top = 30;
const bottom = 150;
const validationEvery = 66;

/** Height of the sketched loss at a place: falling fast, then slowly. */
function lossAt(x: number): number {
  return bottom - (bottom - top) * (0.82 * Math.exp((left - x) / 48) + 0.18 * Math.exp((left - x) / 400));
}

/** Looks like the noise of single steps; the same at every visit. */
function noiseAt(x: number): number {
  return 4 * Math.sin(x * 1.7) + 3.5 * Math.sin(x * 3.1 + 1) + 2.5 * Math.sin(x * 0.61 + 2);
}

function path(stride: number, yAt: (x: number) => number): string {
  let d = `M${left} ${top}`;
  for (let x = left + stride; x <= right; x += stride) d += `L${x} ${yAt(x).toFixed(1)}`;
  return d;
}

const smoothPath = path(4, lossAt);
const rawPath = path(2, (x) => Math.max(top, lossAt(x) + noiseAt(x)));
const validationPlaces = [1, 2, 3, 4].map((nth) => left + nth * validationEvery);

export class CurveFigure extends LitElement {
  static override styles = css`
    :host {
      display: block;
      max-width: 340px;
    }
    svg {
      display: block;
      width: 100%;
      border: 1px solid var(--rule);
      border-radius: var(--corner);
      background-color: var(--sheet);
      background-image: linear-gradient(var(--rule) 1px, transparent 1px), linear-gradient(90deg, var(--rule) 1px, transparent 1px);
      background-size: calc(100% / 17) calc(100% / 9);
    }
    text {
      font: 11px var(--face-data);
      fill: var(--ink-soft);
    }
    .guess {
      stroke: var(--ink-soft);
      stroke-dasharray: 5 4;
    }
    .raw {
      stroke: var(--pen-train);
      opacity: 0.4;
    }
    .smooth {
      stroke: var(--pen-train);
      stroke-width: 2.5;
    }
    .marks {
      fill: var(--pen-validation);
    }
  `;

  override render(): unknown {
    return html`<svg viewBox="0 0 340 180" fill="none" role="img" aria-label="Sketch: the loss starts at guessing blindly and falls step by step">
      <path class="guess" d="M12 30H328" />
      <text x="328" y="22" text-anchor="end">guessing blindly</text>
      <path class="raw" d=${rawPath} />
      <path class="smooth" d=${smoothPath} />
      <g class="marks">${validationPlaces.map((x) => svg`<circle cx=${x} cy=${(lossAt(x) - 5).toFixed(1)} r="3.5" />`)}</g>
      <text x="328" y="172" text-anchor="end">knows what comes next</text>
    </svg>`;
  }
}

customElements.define('curve-figure', CurveFigure);
