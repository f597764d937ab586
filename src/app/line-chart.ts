/**
 * One uPlot chart of values by step: created once, fed in place, resized with its box, redrawn on a theme change. Loads
 * uPlot when the first chart appears. Knows nothing of losses; what is drawn and said is given as properties.
 */
import { LitElement, css, html, unsafeCSS } from 'lit';
import { styleMap } from 'lit/directives/style-map.js';
import type uPlot from 'uplot';
import uPlotCss from 'uplot/dist/uPlot.min.css?inline';
import { baseStyles } from './base-styles.ts';
import { themeChanged } from './theme.ts';

export interface LineSeries {
  readonly label: string;
  /** Custom property with the colour, "--pen-train". */
  readonly pen: string;
  readonly width: number;
  /** 0 to 1; faint lines stand behind. */
  readonly opacity: number;
  /** Values are sparse: they are joined, and each is marked. */
  readonly isSparse?: boolean;
}

export interface ChartReference {
  readonly value: number;
  readonly label: string;
}

/**
 * Long runs: three charts of 100,000 points took 33 ms together (two busy cores, no GPU), so from here on each draws in a
 * task of its own, once a second, where a step more can't be seen anyway.
 */
const longRunPoints = 10_000;
const longRunIntervalMs = 1000;
const axisFontSize = 11;
const wholeNumbers = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 2e5, 5e5, 1e6];

/** Of a log axis' many splits, those that read well; null draws nothing. */
function roundOnLogAxis(split: number): number | null {
  const mantissa = split / 10 ** Math.floor(Math.log10(split) + 1e-9);
  return [1, 2, 3, 5].some((round) => Math.abs(mantissa - round) < 1e-6) ? split : null;
}

/** @fires cursor - detail: index of the point under the crosshair, or null */
export class LineChart extends LitElement {
  static override properties = {
    label: { type: String },
    series: { attribute: false },
    data: { attribute: false },
    isLog: { type: Boolean },
    reference: { attribute: false },
    marks: { attribute: false },
    height: { type: Number },
    cursorIndex: { attribute: false },
    valueText: { type: String },
    isSteerable: { type: Boolean },
    formatValue: { attribute: false },
    emptyText: { type: String },
    isZoomed: { state: true },
  };

  static override styles = [
    unsafeCSS(uPlotCss),
    baseStyles,
    css`
      .box {
        position: relative;
        overflow: hidden;
      }
      .empty .uplot {
        visibility: hidden;
      }
      .empty::after {
        content: attr(data-empty);
        position: absolute;
        inset: 0;
        display: grid;
        place-items: center;
        padding: var(--space-4);
        text-align: center;
        color: var(--ink-soft);
      }
      .u-cursor-x {
        border-right-color: var(--ink);
      }
      .u-select {
        background: var(--ink);
        opacity: 0.1;
      }
      .box-wrap {
        position: relative;
      }
      .whole {
        position: absolute;
        top: 0;
        right: 0;
        background: var(--sheet);
        border-color: var(--rule-strong);
      }
    `,
  ];

  label = '';
  series: readonly LineSeries[] = [];
  data: uPlot.AlignedData = [[]];
  isLog = false;
  reference: ChartReference | null = null;
  /** Places on the x axis where something changed. */
  marks: readonly number[] = [];
  height = 200;
  cursorIndex: number | null = null;
  /** What the crosshair's place reads as, for those who hear it. */
  valueText = '';
  /** Reachable by keyboard: arrow keys move the crosshair. */
  isSteerable = false;
  formatValue: (value: number) => string = String;
  /** Said in the chart's place while there is nothing to draw. */
  emptyText = '';
  private isZoomed = false;

  #plot: uPlot | null = null;
  #makePlot: typeof uPlot | null = null;
  #observer: ResizeObserver | null = null;
  #isShowing = false;
  readonly #redraw = (): void => this.#plot?.redraw(false);

  override connectedCallback(): void {
    super.connectedCallback();
    document.addEventListener(themeChanged, this.#redraw);
    void this.#load();
  }

  override disconnectedCallback(): void {
    super.disconnectedCallback();
    document.removeEventListener(themeChanged, this.#redraw);
    this.#observer?.disconnect();
    this.#plot?.destroy();
    this.#plot = null;
  }

  async #load(): Promise<void> {
    const module = await import('uplot');
    await this.updateComplete;
    if (!this.isConnected) return;
    this.#makePlot = module.default;
    this.#build();
    this.#observer = new ResizeObserver(() => this.#resize());
    this.#observer.observe(this.#box);
  }

  get #box(): HTMLElement {
    const box = this.renderRoot.querySelector<HTMLElement>('.box');
    if (box === null) throw new Error('line-chart was asked for its box before its first render');
    return box;
  }

  #color(property: string): string {
    return getComputedStyle(this).getPropertyValue(property).trim();
  }

  #resize(): void {
    const width = this.#box.clientWidth;
    if (width > 0) this.#plot?.setSize({ width, height: this.height });
  }

  #yRange(min: number | null, max: number | null): [number, number] {
    if (min === null || max === null || !Number.isFinite(min) || !Number.isFinite(max)) return this.isLog ? [0.1, 1] : [0, 1];
    const reference = this.isZoomed ? null : this.reference;
    const low = Math.min(min, reference?.value ?? min);
    const high = Math.max(max, reference?.value ?? max);
    if (this.isLog) return [Math.max(low, 1e-6) / 1.15, Math.max(high, 1e-6) * 1.15];
    if (this.isZoomed) {
      const margin = (max - min) * 0.06 || Math.abs(max) * 0.06 || 1;
      return [min - margin, max + margin];
    }
    return [Math.min(0, low), high > 0 ? high * 1.06 : 1];
  }

  #options(width: number): uPlot.Options {
    const font = `${axisFontSize}px ${this.#color('--face-data')}`;
    const axis = {
      font,
      stroke: () => this.#color('--ink-soft'),
      grid: { stroke: () => this.#color('--rule'), width: 1 },
      ticks: { show: false },
    };
    return {
      width,
      height: this.height,
      legend: { show: false },
      padding: [10, 12, 0, 0],
      cursor: { y: false, points: { size: 7 }, drag: { x: true, y: false } },
      scales: {
        x: { time: false, range: (_plot, min, max) => [min, Math.max(max, min + 10)] },
        y: { distr: this.isLog ? 3 : 1, range: (_plot, min, max) => this.#yRange(min, max) },
      },
      axes: [
        { ...axis, incrs: wholeNumbers, size: 26, gap: 6 },
        {
          ...axis,
          ...(this.isLog ? { filter: (_plot: uPlot, splits: number[]) => splits.map(roundOnLogAxis) } : {}),
          size: 58,
          gap: 6,
          values: (_plot, splits) => splits.map((split: number | null) => (split === null ? '' : this.formatValue(split))),
        },
      ],
      series: [
        {},
        ...this.series.map((line): uPlot.Series => {
          const isSparse = line.isSparse === true;
          return {
            label: line.label,
            stroke: () => this.#color(line.pen),
            width: line.width,
            alpha: line.opacity,
            spanGaps: isSparse,
            points: isSparse ? { show: true, size: 5, fill: () => this.#color(line.pen) } : { show: false },
          };
        }),
      ],
      hooks: {
        draw: [(plot) => this.#drawMarks(plot), (plot) => this.#drawReference(plot)],
        setCursor: [(plot) => this.#announceCursor(plot)],
        setSelect: [(plot) => (this.isZoomed ||= plot.select.width > 0)],
      },
    };
  }

  #build(): void {
    const UPlot = this.#makePlot;
    if (UPlot === null) return;
    this.#plot?.destroy();
    this.isZoomed = false;
    this.#plot = new UPlot(this.#options(Math.max(this.#box.clientWidth, 100)), this.data, this.#box);
    this.#plot.over.addEventListener('dblclick', () => (this.isZoomed = false));
  }

  #drawReference(plot: uPlot): void {
    const { reference } = this;
    if (reference === null) return;
    const { ctx, bbox } = plot;
    const ratio = devicePixelRatio;
    const y = Math.round(plot.valToPos(reference.value, 'y', true));
    if (y < bbox.top || y > bbox.top + bbox.height) return;
    ctx.save();
    ctx.strokeStyle = ctx.fillStyle = this.#color('--ink-soft');
    ctx.lineWidth = ratio;
    ctx.setLineDash([5 * ratio, 4 * ratio]);
    ctx.beginPath();
    ctx.moveTo(bbox.left, y);
    ctx.lineTo(bbox.left + bbox.width, y);
    ctx.stroke();
    ctx.font = `${axisFontSize * ratio}px ${this.#color('--face-data')}`;
    ctx.textAlign = 'right';
    ctx.textBaseline = 'top';
    ctx.fillText(reference.label, bbox.left + bbox.width - 4 * ratio, y + 4 * ratio);
    ctx.restore();
  }

  #drawMarks(plot: uPlot): void {
    const { ctx, bbox } = plot;
    ctx.save();
    ctx.strokeStyle = this.#color('--pen-rate');
    ctx.lineWidth = devicePixelRatio;
    ctx.setLineDash([2 * devicePixelRatio, 3 * devicePixelRatio]);
    for (const mark of this.marks) {
      const x = Math.round(plot.valToPos(mark, 'x', true));
      if (x < bbox.left || x > bbox.left + bbox.width) continue;
      ctx.beginPath();
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
      ctx.stroke();
    }
    ctx.restore();
  }

  #announceCursor(plot: uPlot): void {
    const index = plot.cursor.idx ?? null;
    if (index === this.cursorIndex) return;
    this.cursorIndex = index;
    this.dispatchEvent(new CustomEvent<number | null>('cursor', { detail: index }));
  }

  #placeCursor(plot: uPlot): void {
    if ((plot.cursor.idx ?? null) === this.cursorIndex) return;
    const x = this.cursorIndex === null ? undefined : plot.data[0][this.cursorIndex];
    const left = x === undefined ? -10 : plot.valToPos(x, 'x');
    plot.setCursor({ left, top: x === undefined ? -10 : 1 }, false);
  }

  #show(): void {
    this.#plot?.setData(this.data, !this.isZoomed);
    if (this.isZoomed) this.#plot?.redraw(false);
  }

  #showSoon(): void {
    if (this.#isShowing) return;
    this.#isShowing = true;
    setTimeout(() => {
      this.#isShowing = false;
      this.#show();
    }, longRunIntervalMs);
  }

  #zoomOut(): void {
    this.isZoomed = false;
    this.#plot?.setData(this.data, true);
  }

  #steer(event: KeyboardEvent): void {
    const last = this.data[0].length - 1;
    if (last < 0) return;
    const stride = event.shiftKey ? Math.max(1, Math.round(last / 20)) : 1;
    const from = this.cursorIndex ?? last;
    const moves: Record<string, number | undefined> = {
      ArrowLeft: from - stride,
      ArrowRight: from + stride,
      PageDown: from - Math.max(1, Math.round(last / 10)),
      PageUp: from + Math.max(1, Math.round(last / 10)),
      Home: 0,
      End: last,
    };
    const to = moves[event.key];
    if (to === undefined) return;
    event.preventDefault();
    this.cursorIndex = Math.min(last, Math.max(0, to));
    this.dispatchEvent(new CustomEvent<number | null>('cursor', { detail: this.cursorIndex }));
  }

  override updated(changed: Map<PropertyKey, unknown>): void {
    const plot = this.#plot;
    if (plot === null) return;
    if (changed.has('isLog') || changed.has('series') || changed.has('height')) {
      this.#build();
    } else if (changed.has('data') || changed.has('reference') || changed.has('marks')) {
      if (this.data[0].length < longRunPoints) this.#show();
      else this.#showSoon();
    }
    if (changed.has('cursorIndex') && this.#plot !== null) this.#placeCursor(this.#plot);
  }

  override render(): unknown {
    const steps = this.data[0];
    const last = steps.length - 1;
    const box = html`<div
      class="box ${last < 0 ? 'empty' : ''}"
      data-empty=${this.emptyText}
      style=${styleMap({ height: `${this.height}px` })}
    ></div>`;
    const zoomOut = this.isZoomed
      ? html`<button class="plain whole" @click=${() => this.#zoomOut()}>Whole run</button>`
      : '';
    if (!this.isSteerable) return html`<div class="box-wrap" role="img" aria-label=${this.label}>${box}</div>`;
    return html`<div class="box-wrap">
      <div
        role="slider"
        tabindex="0"
        aria-label="${this.label}. Arrow keys move the crosshair."
        aria-valuemin=${steps[0] ?? 0}
        aria-valuemax=${Math.max(steps[last] ?? 0, 1)}
        aria-valuenow=${steps[this.cursorIndex ?? last] ?? 0}
        aria-valuetext=${this.valueText}
        data-testid="chart"
        @keydown=${(event: KeyboardEvent) => this.#steer(event)}
      >
        ${box}
      </div>
      ${zoomOut}
    </div>`;
  }
}

customElements.define('line-chart', LineChart);
