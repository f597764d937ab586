/** A reason not to start that the person at the terminal can act on: printed as one line, exit code 1, no stack. */
export class StartProblem extends Error {
  override readonly name = 'StartProblem';
}

/** The `code` of a Node system error (`EADDRINUSE`), or null for anything else. */
export function systemErrorCode(error: unknown): string | null {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : null;
}
