/**
 * The one loss curve of the room, with learning rate and gradient norm below on the same steps: values under the
 * crosshair, smoothing, logarithmic axis, download.
 */
import { LitElement, css, html, nothing } from 'lit';
import type uPlot from 'uplot';
import { baseStyles, panelStyles } from './base-styles.ts';
import { csvFileName, historyToCsv } from './csv.ts';
import { formatInteger, formatLearningRate, formatLoss, formatMaybe, unknown } from './format.ts';
import { HistoryColumns } from './history-columns.ts';
import { bitsPerByteOf, perplexityOf } from '../data/bits-per-byte.ts';
import type { HistoryPoint } from './history-columns.ts';
import type { LineSeries } from './line-chart.ts';
import { exponentialMovingAverage } from './smoothing.ts';
import './line-chart.ts';
import './panel-header.ts';

const lossSeries: readonly LineSeries[] = [
  { label: 'training loss', pen: '--pen-train', width: 1, opacity: 0.38 },
  { label: 'training loss, smoothed', pen: '--pen-train', width: 2, opacity: 1 },
  { label: 'validation loss', pen: '--pen-validation', width: 2, opacity: 1, isSparse: true },
];
const rateSeries: readonly LineSeries[] = [{ label: 'learning rate', pen: '--pen-rate', width: 1.5, opacity: 1 }];
const normSeries: readonly LineSeries[] = [{ label: 'gradient norm', pen: '--pen-gradient', width: 1.2, opacity: 1 }];

const narrowPage = '(max-width: 600px)';
const axisNumber = (value: number): string => (value === 0 ? '0' : String(Number(value.toPrecision(3))));
const axisRate = (value: number): string => (value === 0 ? '0' : value.toExponential(0));

export class LossPanel extends LitElement {
  static override properties = {
    history: { attribute: false },
    expectedInitialLoss: { attribute: false },
    heading: { type: String },
    runTitle: { type: String },
    changes: { attribute: false },
    bytesPerToken: { attribute: false },
    hasLocalSteps: { type: Boolean },
    isByCharacter: { attribute: false },
    smoothing: { state: true },
    isLog: { state: true },
    cursorIndex: { state: true },
    isNarrow: { state: true },
  };

  static override styles = [
    baseStyles,
    panelStyles,
    css`
      .tools {
        display: flex;
        flex-wrap: wrap;
        align-items: center;
        gap: var(--space-2) var(--space-4);
        margin-bottom: var(--space-2);
      }
      .tools label {
        display: flex;
        align-items: center;
        gap: var(--space-2);
      }
      input[type='range'] {
        width: 110px;
      }
      .tools button {
        min-height: 32px;
        padding: 0 var(--space-3);
        font-weight: 500;
      }
      .tools .csv {
        margin-left: auto;
      }
      button[aria-pressed='true'] {
        background: var(--accent-wash);
        border-color: var(--accent);
      }
      .sheet {
        border: 1px solid var(--rule);
        border-radius: var(--corner);
        background: var(--sheet);
      }
      dl {
        display: flex;
        flex-wrap: wrap;
        gap: 2px var(--space-3);
        margin: 0;
        padding: var(--space-2) var(--space-3);
        border-bottom: 1px solid var(--rule);
        font-size: var(--size-small);
      }
      dl div {
        display: flex;
        gap: var(--space-2);
        white-space: nowrap;
      }
      dt {
        color: var(--ink-soft);
      }
      dt::before {
        content: '';
        display: inline-block;
        width: 12px;
        height: 0;
        margin-right: 5px;
        vertical-align: 0.28em;
        border-top: 2px solid var(--pen, transparent);
      }
      .step dt::before {
        content: none;
      }
      .train {
        --pen: var(--pen-train);
      }
      .validation {
        --pen: var(--pen-validation);
      }
      .rate {
        --pen: var(--pen-rate);
      }
      .norm {
        --pen: var(--pen-gradient);
      }
      dd {
        margin: 0;
        min-width: 6ch;
        font-family: var(--face-data);
        font-variant-numeric: tabular-nums;
      }
      .changes {
        list-style: none;
        margin: 0;
        padding: var(--space-2) var(--space-3);
      }
      .changes li::before {
        content: '';
        display: inline-block;
        height: 0.9em;
        margin-right: var(--space-2);
        vertical-align: -0.1em;
        border-left: 2px dotted var(--pen-rate);
      }
      .pair {
        display: grid;
        grid-template-columns: 1fr 1fr;
        border-top: 1px solid var(--rule);
      }
      .pair > div {
        min-width: 0;
        padding-top: var(--space-2);
      }
      .pair > div + div {
        border-left: 1px solid var(--rule);
      }
      h3 {
        padding: 0 var(--space-3);
        font: 500 var(--size-small) / 1.4 var(--face-work);
        color: var(--ink-soft);
      }
      @media (max-width: 600px) {
        .download {
          display: none;
        }
        .tools {
          gap: var(--space-2);
        }
        .tools input[type='range'] {
          width: 70px;
        }
        .pair {
          grid-template-columns: 1fr;
        }
        .pair > div + div {
          border-left: 0;
          border-top: 1px solid var(--rule);
        }
      }
    `,
  ];

  history: readonly HistoryPoint[] = [];
  expectedInitialLoss: number | null = null;
  /** UTF-8 bytes that a scored token of the validation rows stands for; null where nothing says. */
  bytesPerToken: number | null = null;
  /** Then what a step has is the norm of a change, not of a gradient. */
  hasLocalSteps = false;
  /** A token is a character. */
  isByCharacter = true;
  heading = 'Loss';
  runTitle = '';
  /** What was changed of the schedule, and from which step on. */
  changes: readonly { readonly step: number; readonly text: string }[] = [];
  private smoothing = 0.6;
  private isLog = false;
  private cursorIndex: number | null = null;
  private isNarrow = false;

  readonly #columns = new HistoryColumns();
  #lossData: uPlot.AlignedData = [[], [], [], []];
  #rateData: uPlot.AlignedData = [[], []];
  #normData: uPlot.AlignedData = [[], []];
  #marks: readonly number[] = [];
  readonly #narrow = matchMedia(narrowPage);
  readonly #onNarrow = (): void => {
    this.isNarrow = this.#narrow.matches;
  };

  override connectedCallback(): void {
    super.connectedCallback();
    this.#onNarrow();
    this.#narrow.addEventListener('change', this.#onNarrow);
  }

  override disconnectedCallback(): void {
    super.disconnectedCallback();
    this.#narrow.removeEventListener('change', this.#onNarrow);
  }

  override willUpdate(changed: Map<PropertyKey, unknown>): void {
    if (changed.has('changes')) this.#marks = this.changes.map(({ step }) => step);
    const hasNewPoints = changed.has('history') && this.#columns.update(this.history);
    if (!hasNewPoints && !changed.has('smoothing')) return;
    const { steps, loss, validation, learningRate, gradNorm } = this.#columns;
    this.#lossData = [steps, loss, exponentialMovingAverage(loss, this.smoothing), validation.slice()];
    if (!hasNewPoints) return;
    this.#rateData = [steps, learningRate];
    this.#normData = [steps, gradNorm];
    if (this.cursorIndex !== null && this.cursorIndex >= this.#columns.length) this.cursorIndex = null;
  }

  #download(): void {
    const url = URL.createObjectURL(new Blob([historyToCsv(this.history)], { type: 'text/csv' }));
    const link = document.createElement('a');
    link.href = url;
    link.download = csvFileName(this.runTitle);
    link.click();
    URL.revokeObjectURL(url);
  }

  #moveCursor(event: CustomEvent<number | null>): void {
    this.cursorIndex = event.detail;
  }

  /** The newest validation at or before the point, since few steps have one. */
  #validationAt(index: number): number | null {
    const { validation } = this.#columns;
    for (let i = index; i >= 0; i--) {
      const value = validation[i];
      if (typeof value === 'number') return value;
    }
    return null;
  }

  #readout(): { readonly cells: unknown; readonly spoken: string } {
    const index = this.cursorIndex ?? this.#columns.length - 1;
    const point = this.#columns.points[index];
    const smooth = this.#lossData[2]?.[index] ?? null;
    const validation = this.#validationAt(index);
    const cell = (pen: string, name: string, value: string): unknown =>
      html`<div class=${pen}>
        <dt>${name}</dt>
        <dd>${value}</dd>
      </div>`;
    const cells = html`
      ${cell('step', 'step', formatMaybe(point?.step, formatInteger))} ${cell('train', 'training', formatMaybe(point?.loss, formatLoss))}
      ${cell('train', 'smoothed', formatMaybe(smooth, formatLoss))}
      ${cell('validation', 'validation', formatMaybe(validation, formatLoss))}
      ${validation === null ? nothing : cell('validation', 'perplexity', formatLoss(perplexityOf(validation)))}
      ${validation === null || this.bytesPerToken === null ? nothing : cell('validation', 'bits per byte', formatLoss(bitsPerByteOf(validation, this.bytesPerToken)))}
      ${cell('rate', 'rate', formatMaybe(point?.lr, formatLearningRate))}
      ${cell('norm', this.hasLocalSteps ? 'change' : 'gradient', formatMaybe(point?.gradNorm, formatLoss))}
    `;
    const spoken =
      point === undefined
        ? 'No step yet'
        : `Step ${point.step}: training loss ${formatLoss(point.loss)}, validation loss ${
            validation === null ? unknown : formatLoss(validation)
          }, learning rate ${formatLearningRate(point.lr)}, ${this.hasLocalSteps ? 'change' : 'gradient norm'} ${formatLoss(point.gradNorm)}`;
    return { cells, spoken };
  }

  #tools(): unknown {
    return html`<div class="tools">
      <label>
        Smoothing
        <input
          type="range"
          min="0"
          max="0.98"
          step="0.02"
          data-testid="smoothing"
          .value=${String(this.smoothing)}
          @input=${(event: Event) => (this.smoothing = Number((event.target as HTMLInputElement).value))}
        />
        <output class="data small">${this.smoothing.toFixed(2)}</output>
      </label>
      <button data-testid="log-axis" aria-pressed=${this.isLog ? 'true' : 'false'} @click=${() => (this.isLog = !this.isLog)}>
        Log axis
      </button>
      <button class="csv" data-testid="download-csv" ?disabled=${this.history.length === 0} @click=${() => this.#download()}>
        <span class="download">Download</span> CSV
      </button>
    </div>`;
  }

  override render(): unknown {
    const { cells, spoken } = this.#readout();
    const expected = this.expectedInitialLoss;
    const reference = expected === null ? null : { value: expected, label: `ln V = ${expected.toFixed(2)}: guessing blindly` };
    const onCursor = (event: CustomEvent<number | null>): void => this.#moveCursor(event);
    return html`<section aria-label=${this.heading}>
      <panel-header heading=${this.heading}>
        The loss is how surprised the model is, on average, by the next ${this.isByCharacter ? 'character' : 'token, a piece of a word'}; lower is better, 0 is knowing it for
        certain. The dashed line, ln V, is guessing blindly among V ${this.isByCharacter ? 'characters' : 'tokens'}. Blue is the text it trains on, faint for each
        step and strong when averaged over steps; red is text it never trains on: when red rises while blue falls, it learns by heart.
        Perplexity is among how many equally likely tokens it is as unsure; bits per byte is the same loss by the text’s bytes, which
        can be compared whatever a token is.
      </panel-header>
      ${this.#tools()}
      <div class="sheet">
        <dl data-testid="readout">${cells}</dl>
        <line-chart
          label="Training and validation loss by step"
          emptyText="The curve begins with the first step."
          .series=${lossSeries}
          .data=${this.#lossData}
          .isLog=${this.isLog}
          .reference=${this.#reference(reference)}
          .marks=${this.#marks}
          .height=${this.isNarrow ? 240 : 320}
          .cursorIndex=${this.cursorIndex}
          .valueText=${spoken}
          .isSteerable=${true}
          .formatValue=${axisNumber}
          @cursor=${onCursor}
        ></line-chart>
        ${this.changes.length === 0
          ? nothing
          : html`<ul class="changes small" data-testid="schedule-changes">
              ${this.changes.map(({ text }) => html`<li>${text}</li>`)}
            </ul>`}
        <div class="pair">
          <div>
            <h3>Learning rate: how far a step moves the weights</h3>
            <line-chart label="Learning rate by step" .series=${rateSeries} .data=${this.#rateData} .marks=${this.#marks} .height=${120}
              .cursorIndex=${this.cursorIndex} .formatValue=${axisRate} @cursor=${onCursor}></line-chart>
          </div>
          <div>
            <h3>${this.hasLocalSteps ? 'Change: how far the devices went alone' : 'Gradient norm: how steep the way down is'}</h3>
            <line-chart label=${this.hasLocalSteps ? 'Change by step' : 'Gradient norm by step'} .series=${normSeries} .data=${this.#normData} .height=${120}
              .cursorIndex=${this.cursorIndex} .formatValue=${axisNumber} @cursor=${onCursor}></line-chart>
          </div>
        </div>
      </div>
    </section>`;
  }

  #lastReference: { readonly value: number; readonly label: string } | null = null;
  /** The same object while it says the same, so that charts don't redraw for nothing. */
  #reference(next: { readonly value: number; readonly label: string } | null): typeof next {
    if (next?.label !== this.#lastReference?.label) this.#lastReference = next;
    return this.#lastReference;
  }
}

customElements.define('loss-panel', LossPanel);
