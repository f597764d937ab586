/** Whether something parsed is an object with fields. What its fields hold is for whoever asks to check. */
export function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
