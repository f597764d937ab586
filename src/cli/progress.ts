/** How far a run is, on a terminal: one line that is written over. Says nothing when stderr is not a terminal. */

export interface Progress {
  begin(steps: number, parameterCount: number): void;
  step(measured: { readonly step: number; readonly loss: number; readonly tokens: number; readonly ms: number; readonly validationLoss?: number }): void;
  end(): void;
}

const silent: Progress = { begin: () => undefined, step: () => undefined, end: () => undefined };

/** Weight of the newest step in the shown speed. */
const smoothing = 0.1;

export function progressOn(stream: NodeJS.WriteStream): Progress {
  return stream.isTTY ? new TerminalProgress(stream) : silent;
}

class TerminalProgress implements Progress {
  readonly #stream: NodeJS.WriteStream;
  #steps = 0;
  #msPerStep: number | null = null;
  #validationLoss: number | null = null;

  constructor(stream: NodeJS.WriteStream) {
    this.#stream = stream;
  }

  begin(steps: number, parameterCount: number): void {
    this.#steps = steps;
    this.#stream.write(`${parameterCount.toLocaleString('en')} parameters, ${steps} steps\n`);
  }

  step({ step, loss, tokens, ms, validationLoss }: Parameters<Progress['step']>[0]): void {
    this.#msPerStep = this.#msPerStep === null ? ms : this.#msPerStep + smoothing * (ms - this.#msPerStep);
    this.#validationLoss = validationLoss ?? this.#validationLoss;
    const remainingSeconds = Math.round(((this.#steps - step - 1) * this.#msPerStep) / 1000);
    const parts = [
      `step ${step + 1}/${this.#steps}`,
      `loss ${loss.toFixed(4)}`,
      ...(this.#validationLoss === null ? [] : [`validation ${this.#validationLoss.toFixed(4)}`]),
      `${Math.round((tokens * 1000) / this.#msPerStep)} tokens/s`,
      `${Math.floor(remainingSeconds / 60)}:${String(remainingSeconds % 60).padStart(2, '0')} left`,
    ];
    // \x1b[K clears what a longer line left behind.
    this.#stream.write(`\r${parts.join('  ')}\x1b[K`);
  }

  end(): void {
    if (this.#msPerStep !== null) this.#stream.write('\n');
  }
}
