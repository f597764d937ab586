/** Errors of the engine, and the check that raises them. Messages are built only when the check fails. */

export class EngineError extends Error {
  override readonly name = 'EngineError';
}

export function invariant(condition: boolean, message: () => string): asserts condition {
  if (!condition) throw new EngineError(message());
}
