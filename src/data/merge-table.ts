/**
 * The tokens of a byte-pair encoding and the merges that make them (Gage 1994; Sennrich et al. 2016), numbered as in GPT-2: 256
 * single bytes first, then one new token for each merge in the order in which merges apply. Where two merges make the same bytes
 * they make the same token, as in Hugging Face's libraries. Knows bytes, no words and no special tokens.
 */
import { characterOfId, idOfByte } from './byte-characters.ts';
import { TokenizerError } from './errors.ts';
import { Heap } from './heap.ts';

/** Ids of a pair in one number, which JavaScript holds exactly. */
export const mostTokens = 2 ** 20;
/** Of all tokens together: merges could double a token's length again and again. */
const mostCharacters = 2 ** 26;

/** Of a pair of ids below `mostTokens`. */
export function pairKey(left: number, right: number): number {
  return left * mostTokens + right;
}

/** Rank and place in a word as one number that orders by rank, then from left to right. */
const places = 2 ** 32;

interface Merge {
  readonly left: number;
  readonly right: number;
  readonly made: number;
}

export class MergeTable {
  readonly #names: string[] = [...characterOfId];
  readonly #ids = new Map(characterOfId.map((name, id) => [name, id]));
  readonly #merges: Merge[] = [];
  readonly #ranks = new Map<number, number>();
  #characters = characterOfId.length;

  /** Ids are below it. */
  get size(): number {
    return this.#names.length;
  }

  get merges(): readonly Merge[] {
    return this.#merges;
  }

  /** The token's bytes as visible characters (see `byte-characters.ts`). */
  nameOf(id: number): string {
    return this.#names[id] ?? '';
  }

  /** Adds a merge behind all others and returns the token it makes. Throws `TokenizerError` for ids that are not there yet, or a merge that is there. */
  add(left: number, right: number): number {
    const [before, after] = [this.#names[left], this.#names[right]];
    if (before === undefined || after === undefined) throw new TokenizerError(`merge ${this.#merges.length} joins a token that no merge before it has made`);
    const key = pairKey(left, right);
    if (this.#ranks.has(key)) throw new TokenizerError(`merge ${this.#merges.length} is there twice`);
    const name = before + after;
    let made = this.#ids.get(name);
    if (made === undefined) {
      made = this.#names.length;
      this.#characters += name.length;
      if (made >= mostTokens || this.#characters > mostCharacters) throw new TokenizerError('the merges make more or longer tokens than can be used');
      this.#names.push(name);
      this.#ids.set(name, made);
    }
    this.#ranks.set(key, this.#merges.length);
    this.#merges.push({ left, right, made });
    return made;
  }

  /** The ids of a word's bytes: of all merges that can be applied always the one that comes first, of its places the leftmost. */
  encodeWord(bytes: Uint8Array): number[] {
    const ids = Array.from(bytes, (byte) => idOfByte[byte] ?? 0);
    if (ids.length < 2) return ids;
    // Tokens that are left form a list; one that was merged into the token before it has the id -1.
    const next = Int32Array.from(ids, (_, at) => at + 1);
    const previous = Int32Array.from(ids, (_, at) => at - 1);
    const due = new Heap<number>((one, other) => one < other);
    const rankAt = (at: number): number | undefined => {
      const right = ids[next[at] ?? ids.length];
      return right === undefined ? undefined : this.#ranks.get(pairKey(ids[at] ?? 0, right));
    };
    const consider = (at: number): void => {
      const rank = rankAt(at);
      if (rank !== undefined) due.push(rank * places + at);
    };
    for (let at = 0; at + 1 < ids.length; at++) consider(at);
    for (let first = due.pop(); first !== undefined; first = due.pop()) {
      const at = first % places;
      const rank = (first - at) / places;
      const merge = this.#merges[rank];
      // The pair may be gone: one of its tokens was merged with its other neighbour.
      if (merge === undefined || ids[at] !== merge.left || rankAt(at) !== rank) continue;
      const right = next[at] ?? 0;
      const after = next[right] ?? 0;
      ids[at] = merge.made;
      ids[right] = -1;
      next[at] = after;
      if (after < ids.length) previous[after] = at;
      const before = previous[at] ?? -1;
      if (before >= 0) consider(before);
      consider(at);
    }
    return ids.filter((id) => id >= 0);
  }
}
