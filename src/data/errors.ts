/** What is wrong with someone's data, in a sentence that names the place. */
export class DataError extends Error {
  override readonly name = 'DataError';
}
