/** `Muon` in f64 on the CPU, by plain loops: the oracle of the GPU's. */
import type { LayoutEntry, ParameterLayout } from '../engine/index.ts';
import { clipFactor, updateFactors } from './adamw-rule.ts';
import type { AdamWCommit, UpdateResult } from './adamw-rule.ts';
import { stepScale } from './muon.ts';
import type { MuonSettings } from './muon.ts';

/** Rows of a matrix. */
type Rows = readonly Float64Array[];

const product = (left: Rows, right: Rows): Rows =>
  left.map((row) => Float64Array.from(right[0] ?? [], (_, column) => row.reduce((sum, value, depth) => sum + value * (right[depth]?.[column] ?? 0), 0)));

const transposed = (rows: Rows): Rows => Array.from(rows[0] ?? [], (_, column) => Float64Array.from(rows, (row) => row[column] ?? 0));

const combined = (factors: readonly (readonly [factor: number, rows: Rows])[]): Rows =>
  (factors[0]?.[1] ?? []).map((row, at) => row.map((_, column) => factors.reduce((sum, [factor, rows]) => sum + factor * (rows[at]?.[column] ?? 0), 0)));

/** Newton–Schulz as its authors write it: x ← a x + (b (x xᵀ) + c (x xᵀ)²) x, five times, on the side that has fewer rows. */
function orthogonalized(matrix: Rows): Rows {
  const isTall = matrix.length > (matrix[0]?.length ?? 0);
  const norm = Math.sqrt(matrix.reduce((sum, row) => sum + row.reduce((squares, value) => squares + value * value, 0), 0));
  let x: Rows = (isTall ? transposed(matrix) : matrix).map((row) => row.map((value) => value / Math.max(norm, 1e-12)));
  for (let iteration = 0; iteration < 5; iteration++) {
    const gram = product(x, transposed(x));
    const factor = combined([[-4.775, gram], [2.0315, product(gram, gram)]]);
    x = combined([[3.4445, x], [1, product(factor, x)]]);
  }
  return isTall ? transposed(x) : x;
}

export class MuonReference {
  readonly weights: Float64Array;
  /** Filled by whoever sums gradients; `commit` leaves it as it is. */
  readonly gradientSum: Float64Array;
  readonly #layout: ParameterLayout;
  readonly #settings: MuonSettings;
  readonly #isMatrix: (entry: LayoutEntry) => boolean;
  readonly #firstMoment: Float64Array;
  readonly #secondMoment: Float64Array;

  constructor(weights: Float64Array, layout: ParameterLayout, settings: MuonSettings, isMatrix: (entry: LayoutEntry) => boolean) {
    this.weights = weights;
    this.gradientSum = new Float64Array(weights.length);
    this.#firstMoment = new Float64Array(weights.length);
    this.#secondMoment = new Float64Array(weights.length);
    this.#layout = layout;
    this.#settings = settings;
    this.#isMatrix = isMatrix;
  }

  commit(commit: AdamWCommit): UpdateResult {
    const { inverseWeightSum } = updateFactors(this.#settings, commit);
    const gradNorm = Math.sqrt(this.gradientSum.reduce((sum, gradient) => sum + (gradient * inverseWeightSum) ** 2, 0));
    if (!Number.isFinite(gradNorm)) return { gradNorm, applied: false };
    const scale = inverseWeightSum * clipFactor(this.#settings.gradientClip, gradNorm);
    for (const entry of this.#layout.entries) {
      if (this.#isMatrix(entry)) this.#matrix(entry, scale, commit);
      else this.#others(entry, scale, commit);
    }
    return { gradNorm, applied: true };
  }

  #others({ offsetElements, lengthElements, shape }: LayoutEntry, scale: number, commit: AdamWCommit): void {
    const { beta1, beta2, epsilon } = this.#settings;
    const { decayFactor, stepSize, rootCorrection2 } = updateFactors(this.#settings, commit);
    for (let i = offsetElements; i < offsetElements + lengthElements; i++) {
      const gradient = (this.gradientSum[i] ?? 0) * scale;
      const first = beta1 * (this.#firstMoment[i] ?? 0) + (1 - beta1) * gradient;
      const second = beta2 * (this.#secondMoment[i] ?? 0) + (1 - beta2) * gradient * gradient;
      this.#firstMoment[i] = first;
      this.#secondMoment[i] = second;
      this.weights[i] = (this.weights[i] ?? 0) * (shape.length >= 2 ? decayFactor : 1) - (stepSize * first) / (Math.sqrt(second) / rootCorrection2 + epsilon);
    }
  }

  #matrix({ offsetElements, shape }: LayoutEntry, scale: number, { learningRate }: AdamWCommit): void {
    const { momentum, matrixRate, weightDecay } = this.#settings;
    const [rows = 1, columns = 1] = shape;
    const ahead = Array.from({ length: rows }, (_, row) =>
      Float64Array.from({ length: columns }, (_column, column) => {
        const i = offsetElements + row * columns + column;
        const gradient = (this.gradientSum[i] ?? 0) * scale;
        const first = momentum * (this.#firstMoment[i] ?? 0) + (1 - momentum) * gradient;
        this.#firstMoment[i] = first;
        return momentum * first + (1 - momentum) * gradient;
      }),
    );
    const rate = learningRate * matrixRate;
    for (const [row, values] of orthogonalized(ahead).entries()) {
      for (const [column, value] of values.entries()) {
        const i = offsetElements + row * columns + column;
        this.weights[i] = (this.weights[i] ?? 0) * (1 - rate * weightDecay) - rate * stepScale(shape) * value;
      }
    }
  }
}
