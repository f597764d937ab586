/**
 * UTF-8 for texts that may hold lone surrogates, which JavaScript's strings can and UTF-8 can't: each is written as the three
 * bytes that its code point would have (“WTF-8”), so that every string comes back exactly. Well-formed text has the same bytes
 * as in UTF-8. Decodes bytes as they come; what is no character becomes U+FFFD, as in the Encoding Standard.
 */

const replacement = 0xfffd;
/** Code units are joined to text in pieces: a call has room for so many arguments. */
const unitsAtOnce = 8192;

export function encodeUtf8(text: string): Uint8Array<ArrayBuffer> {
  // A code unit is at most three bytes, and two of a pair are four.
  const bytes = new Uint8Array(3 * text.length);
  let count = 0;
  for (let at = 0; at < text.length; at++) {
    const code = text.codePointAt(at) ?? 0;
    if (code < 0x80) {
      bytes[count++] = code;
    } else if (code < 0x800) {
      bytes[count++] = 0xc0 | (code >> 6);
      bytes[count++] = 0x80 | (code & 0x3f);
    } else if (code < 0x10000) {
      bytes[count++] = 0xe0 | (code >> 12);
      bytes[count++] = 0x80 | ((code >> 6) & 0x3f);
      bytes[count++] = 0x80 | (code & 0x3f);
    } else {
      at++;
      bytes[count++] = 0xf0 | (code >> 18);
      bytes[count++] = 0x80 | ((code >> 12) & 0x3f);
      bytes[count++] = 0x80 | ((code >> 6) & 0x3f);
      bytes[count++] = 0x80 | (code & 0x3f);
    }
  }
  return bytes.subarray(0, count);
}

/** The decoder of the Encoding Standard (WHATWG, “UTF-8 decoder”), but for three-byte surrogates, which it lets through. */
export class Utf8Decoder {
  readonly #units: number[] = [];
  #text = '';
  #code = 0;
  /** Bytes that the character begun still lacks. */
  #missing = 0;
  #lowest = 0x80;
  #highest = 0xbf;

  push(byte: number): void {
    if (this.#missing === 0) {
      this.#begin(byte);
      return;
    }
    if (byte < this.#lowest || byte > this.#highest) {
      this.#giveUp();
      this.#begin(byte);
      return;
    }
    this.#lowest = 0x80;
    this.#highest = 0xbf;
    this.#code = (this.#code << 6) | (byte & 0x3f);
    this.#missing -= 1;
    if (this.#missing === 0) this.#add(this.#code);
  }

  /** All whole characters since the last call. */
  take(): string {
    const text = this.#text + String.fromCharCode(...this.#units);
    this.#text = '';
    this.#units.length = 0;
    return text;
  }

  /** No more bytes come: what was begun is broken. */
  end(): void {
    if (this.#missing > 0) this.#giveUp();
  }

  #begin(byte: number): void {
    if (byte < 0x80) {
      this.#add(byte);
    } else if (byte >= 0xc2 && byte <= 0xdf) {
      this.#expect(1, byte & 0x1f);
    } else if (byte >= 0xe0 && byte <= 0xef) {
      if (byte === 0xe0) this.#lowest = 0xa0;
      this.#expect(2, byte & 0x0f);
    } else if (byte >= 0xf0 && byte <= 0xf4) {
      if (byte === 0xf0) this.#lowest = 0x90;
      if (byte === 0xf4) this.#highest = 0x8f;
      this.#expect(3, byte & 0x07);
    } else {
      this.#add(replacement);
    }
  }

  #expect(missing: number, code: number): void {
    this.#missing = missing;
    this.#code = code;
  }

  #giveUp(): void {
    this.#missing = 0;
    this.#lowest = 0x80;
    this.#highest = 0xbf;
    this.#add(replacement);
  }

  #add(code: number): void {
    if (code > 0xffff) this.#units.push(0xd800 + ((code - 0x10000) >> 10), 0xdc00 + ((code - 0x10000) & 0x3ff));
    else this.#units.push(code);
    if (this.#units.length >= unitsAtOnce) this.#text = this.take();
  }
}
