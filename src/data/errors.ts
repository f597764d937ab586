/** What is wrong with someone's data, in a sentence that names the place. */
export class DataError extends Error {
  override readonly name = 'DataError';
}

/** What is wrong with a tokenizer, or what it can't express, in a sentence. */
export class TokenizerError extends Error {
  override readonly name = 'TokenizerError';
}
