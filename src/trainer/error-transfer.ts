/**
 * Lets errors keep their `problem` when they cross the worker's border: Comlink by itself carries name, message and
 * stack only. To be called once on the throwing side; the receiving side needs nothing.
 */
import { transferHandlers } from 'comlink';
import type { TransferHandler } from 'comlink';
import { carriedProblem } from './errors.ts';

interface SerializedThrow {
  readonly isError: boolean;
  readonly value: object;
}

export function keepProblemsOfErrors(): void {
  const handler = transferHandlers.get('throw') as TransferHandler<{ readonly value: unknown }, SerializedThrow>;
  const extended: typeof handler = {
    canHandle: (value): value is { readonly value: unknown } => handler.canHandle(value),
    serialize(thrown) {
      const [serialized, transferables] = handler.serialize(thrown);
      const problem = carriedProblem(thrown.value);
      if (problem === null) return [serialized, transferables];
      // The receiver assigns everything in `value` to the error that it throws.
      return [{ ...serialized, value: { ...serialized.value, problem } }, transferables];
    },
    deserialize: (serialized) => handler.deserialize(serialized),
  };
  transferHandlers.set('throw', extended);
}
