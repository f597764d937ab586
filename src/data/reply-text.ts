/**
 * The text of a reply as its tokens come: what of it is certain, and where a stop string ends it. Knows no models.
 */
import type { Tokenizer } from './tokenizer.ts';

export interface ReplySoFar {
  /** Only what no further token can change: neither part of a character nor of what may become a stop string. */
  readonly text: string;
  /** A stop string is complete, the first of them; the text ends before it, and further tokens change nothing. */
  readonly isStopped: boolean;
}

/** What a decoder writes for bytes that are no character, or not yet. */
const replacement = '\uFFFD';

export class ReplyText {
  readonly #decode: Tokenizer['decode'];
  readonly #stops: readonly string[];
  readonly #ids: number[] = [];
  #stopped: string | null = null;

  constructor(tokenizer: Pick<Tokenizer, 'decode'>, stops: readonly string[] = []) {
    this.#decode = (ids) => tokenizer.decode(ids);
    this.#stops = stops.filter((stop) => stop !== '');
  }

  push(id: number): ReplySoFar {
    if (this.#stopped !== null) return { text: this.#stopped, isStopped: true };
    this.#ids.push(id);
    const whole = this.#decode(this.#ids);
    const ends = this.#stops.map((stop) => whole.indexOf(stop)).filter((at) => at >= 0);
    if (ends.length > 0) {
      this.#stopped = whole.slice(0, Math.min(...ends));
      return { text: this.#stopped, isStopped: true };
    }
    return { text: withoutOpenEnd(whole, this.#stops), isStopped: false };
  }

  /** All of it, now that no token comes any more. */
  end(): string {
    return this.#stopped ?? this.#decode(this.#ids);
  }
}

function withoutOpenEnd(text: string, stops: readonly string[]): string {
  let end = text.length;
  while (text[end - 1] === replacement) end--;
  const most = stops.reduce((longest, stop) => Math.max(longest, stop.length - 1), 0);
  for (let length = Math.min(most, end); length > 0; length--) {
    const tail = text.slice(end - length, end);
    if (stops.some((stop) => stop.startsWith(tail))) return text.slice(0, end - length);
  }
  return text.slice(0, end);
}
