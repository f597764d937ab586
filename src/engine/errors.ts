/** Errors of the engine, and the check that raises them. Messages are built only when the check fails. */

/** What a caller can act on; every other mistake, ours or a driver's, is `failed`. */
export type EngineErrorCode = 'no-adapter' | 'out-of-memory' | 'lost' | 'failed';

export class EngineError extends Error {
  override readonly name = 'EngineError';
  readonly code: EngineErrorCode;

  constructor(message: string, { code = 'failed', cause }: { readonly code?: EngineErrorCode; readonly cause?: unknown } = {}) {
    super(message, { cause });
    this.code = code;
  }
}

export function invariant(condition: boolean, message: () => string, code?: EngineErrorCode): asserts condition {
  if (!condition) throw new EngineError(message(), { code: code ?? 'failed' });
}
