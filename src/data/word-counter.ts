/**
 * How often each word of a text occurs, for training a tokenizer. Takes text as a stream of pieces: memory is needed for distinct
 * words only. Where even those are too many, the rarest are dropped, and it is said how many occurrences went with them.
 */
import { unfinishedFrom, wordsOf } from './words.ts';

export interface CountedWords {
  readonly counts: ReadonlyMap<string, number>;
  /** Occurrences of words that were dropped as rare. What is counted of a word may be too little by what was dropped of it before. */
  readonly droppedOccurrences: number;
}

export interface WordLimits {
  /** More distinct words than this, or more characters in them, and the rarest half are dropped. */
  readonly mostWords: number;
  readonly mostCharacters: number;
}

/** About 300 MB of strings and counts. English text of 2 GB has about two million distinct words, most of them rare. */
const usualLimits: WordLimits = { mostWords: 2 ** 21, mostCharacters: 2 ** 25 };
/** Longer words are cut: a file without any blanks should not be one word. */
const mostWordCharacters = 2 ** 12;

export class WordCounter {
  readonly #limits: WordLimits;
  #counts = new Map<string, number>();
  #characters = 0;
  #droppedOccurrences = 0;
  /** The end of the text so far, which more text may cut into other words. */
  #rest = '';

  constructor(limits: WordLimits = usualLimits) {
    this.#limits = limits;
  }

  /** The next piece of a document: words may go on from one piece to the next. */
  add(text: string): void {
    const words = [...wordsOf(this.#rest + text)];
    const kept = unfinishedFrom(words);
    this.#rest = words.slice(kept).join('');
    for (const word of words.slice(0, kept)) this.#count(word);
    if (this.#rest.length > mostWordCharacters) this.endDocument();
  }

  /** What comes next is another document: no word goes on. */
  endDocument(): void {
    for (const word of wordsOf(this.#rest)) this.#count(word);
    this.#rest = '';
  }

  /** Ends the document. */
  counted(): CountedWords {
    this.endDocument();
    return { counts: this.#counts, droppedOccurrences: this.#droppedOccurrences };
  }

  #count(word: string): void {
    if (word.length > mostWordCharacters) {
      for (let from = 0; from < word.length; from += mostWordCharacters) this.#count(word.slice(from, from + mostWordCharacters));
      return;
    }
    const count = this.#counts.get(word) ?? 0;
    this.#counts.set(word, count + 1);
    if (count > 0) return;
    this.#characters += word.length;
    const { mostWords, mostCharacters } = this.#limits;
    if (this.#counts.size > mostWords || this.#characters > mostCharacters) this.#dropRarest();
  }

  /** Of the rarest half all that are as rare as its most frequent: which of them are dropped must not depend on their order. */
  #dropRarest(): void {
    const sorted = Float64Array.from(this.#counts.values()).sort();
    const rare = sorted[sorted.length >> 1] ?? 0;
    const kept = new Map<string, number>();
    this.#characters = 0;
    for (const [word, count] of this.#counts) {
      if (count > rare) {
        kept.set(word, count);
        this.#characters += word.length;
      } else {
        this.#droppedOccurrences += count;
      }
    }
    this.#counts = kept;
  }
}
