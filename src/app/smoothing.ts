/**
 * The exponential moving average behind the smoothing slider. It changes what is drawn, never what is measured.
 */

/**
 * s₀ = 0, sᵢ = w·sᵢ₋₁ + (1 − w)·xᵢ, shown as sᵢ / (1 − wⁱ): the division undoes the pull of the zero start, so the first
 * value is x itself (the bias correction of Kingma & Ba 2015, equation 4). Non-finite values are passed through and
 * leave the average alone.
 *
 * @param weight in [0, 1); 0 returns the values unchanged.
 */
export function exponentialMovingAverage(values: ArrayLike<number>, weight: number): Float64Array {
  const smoothed = new Float64Array(values.length);
  let average = 0;
  let remainingWeight = 1;
  for (let i = 0; i < values.length; i++) {
    const value = values[i] ?? Number.NaN;
    if (!Number.isFinite(value)) {
      smoothed[i] = value;
      continue;
    }
    average = weight * average + (1 - weight) * value;
    remainingWeight *= weight;
    smoothed[i] = average / (1 - remainingWeight);
  }
  return smoothed;
}
