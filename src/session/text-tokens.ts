/**
 * The text of a run as tokens, for its figures and for its start. What takes long is done in a worker. The last text's tokens are
 * kept: figures are asked for at every change of a setting. Which text, and what becomes of the tokens, is not decided here.
 */
import { TokenizerError } from '../data/errors.ts';
import { tokenizerFacts } from '../data/serialized-tokenizer.ts';
import { byCharacter } from '../data/tokenized-text.ts';
import type { TokenizedText } from '../data/tokenized-text.ts';
import type { TextChoice } from '../data/tokenizer-choice.ts';
import { bytesAndSpecialTokens, largestTrainedVocabulary } from '../data/tokenizer-choice.ts';
import type { TokenizingOptions } from '../data/tokenizing-client.ts';
import { problem } from './problems.ts';
import { RunError, factsOfText } from './run.ts';
import type { TextFacts } from './run.ts';

/** Texts up to this length take a few milliseconds: less than it takes to start a worker. */
const quickCharacters = 50_000;

const ignored: TokenizingOptions = { progress: () => undefined, signal: new AbortController().signal };

/** Throws `RunError` for a vocabulary that can't be. */
function checked(choice: TextChoice): TextChoice {
  if (choice.kind !== 'bpe') return choice;
  const { vocabularySize } = choice;
  if (Number.isInteger(vocabularySize) && vocabularySize >= bytesAndSpecialTokens && vocabularySize <= largestTrainedVocabulary) return choice;
  throw new RunError(problem('bad-settings', `A vocabulary of ${vocabularySize} tokens can’t be learned: ${bytesAndSpecialTokens} to ${largestTrainedVocabulary} can.`));
}

async function tokenize(text: string, choice: TextChoice, options: TokenizingOptions): Promise<TokenizedText> {
  if (choice.kind === 'characters' && text.length <= quickCharacters) return byCharacter(text);
  // Loaded when it is used: the first load is short.
  const { tokenizeInWorker } = await import('../data/tokenizing-client.ts');
  try {
    return await tokenizeInWorker({ text, choice }, options);
  } catch (error) {
    if (choice.kind !== 'given' || !(error instanceof TokenizerError)) throw error;
    throw new RunError(problem('bad-settings', `The text and the model’s tokenizer don’t match: ${error.message}.`));
  }
}

export class TextTokens {
  #last: { readonly text: string; readonly choice: string; readonly tokenized: Promise<TokenizedText> } | null = null;

  async tokenized(text: string, choice: TextChoice, options = ignored): Promise<TokenizedText> {
    const key = JSON.stringify(checked(choice));
    if (this.#last?.text === text && this.#last.choice === key) return this.#last.tokenized;
    const tokenized = tokenize(text, choice, options);
    this.#last = { text, choice: key, tokenized };
    try {
      return await tokenized;
    } catch (error) {
      if (this.#last.tokenized === tokenized) this.#last = null;
      throw error;
    }
  }

  /** Nothing is trained for figures: until a run starts, byte pairs are taken to fill their vocabulary. */
  async facts(text: string, choice: TextChoice): Promise<TextFacts> {
    if (choice.kind === 'given') return { ...tokenizerFacts(choice.tokenizer), characters: text.length, tokens: null };
    if (choice.kind === 'characters') return factsOfText(await this.tokenized(text, choice));
    const { vocabularySize } = choice;
    return { kind: 'bpe', characters: text.length, tokens: null, vocabularySize };
  }
}
