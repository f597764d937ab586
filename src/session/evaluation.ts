/** Held-out rows and what a trainer makes of them, as sums: who evaluates what is the room's decision. */
import { weightOf } from '../data/batches.ts';
import type { BatchSource, MicrobatchRows } from '../data/types.ts';
import type { Trainer } from '../trainer/types.ts';

/** Throws `RangeError` for a micro-batch that there is not. */
export function heldOut({ validation }: BatchSource, microbatches: readonly number[]): readonly MicrobatchRows[] {
  return microbatches.map((index) => {
    const rows = validation[index];
    if (rows === undefined) throw new RangeError(`${validation.length} micro-batches are held out, and number ${index} was asked for`);
    return rows;
  });
}

/** Rows without any scored position come to nothing. */
export async function evaluatedSums(trainer: Pick<Trainer, 'evaluate'>, rows: readonly MicrobatchRows[]): Promise<{ readonly lossSum: number; readonly weightSum: number }> {
  const weightSum = rows.reduce((sum, each) => sum + weightOf(each), 0);
  return { lossSum: weightSum > 0 ? (await trainer.evaluate(rows)) * weightSum : 0, weightSum };
}
