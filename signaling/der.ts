/**
 * The few ASN.1 values a certificate is made of, as DER (ITU-T X.690): tag, length, content.
 * Not a parser, and not a general encoder: only what `certificate.ts` writes.
 */

const tag = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  objectIdentifier: 0x06,
  utf8String: 0x0c,
  utcTime: 0x17,
  generalizedTime: 0x18,
  sequence: 0x30,
  set: 0x31,
} as const;

function element(tagByte: number, content: Uint8Array): Buffer {
  const length = content.byteLength;
  const lengthBytes: number[] = [];
  if (length < 0x80) {
    lengthBytes.push(length);
  } else {
    for (let rest = length; rest > 0; rest = Math.floor(rest / 256)) lengthBytes.unshift(rest % 256);
    lengthBytes.unshift(0x80 | lengthBytes.length);
  }
  return Buffer.concat([Buffer.from([tagByte, ...lengthBytes]), content]);
}

export function sequence(...parts: readonly Uint8Array[]): Buffer {
  return element(tag.sequence, Buffer.concat(parts));
}

export function set(...parts: readonly Uint8Array[]): Buffer {
  return element(tag.set, Buffer.concat(parts));
}

export function boolean(value: boolean): Buffer {
  return element(tag.boolean, Buffer.from([value ? 0xff : 0x00]));
}

/** A non-negative integer from big-endian bytes: leading zeros go, one comes back where the top bit would mean minus. */
export function integer(bigEndian: Uint8Array): Buffer {
  let start = 0;
  while (start < bigEndian.byteLength - 1 && bigEndian[start] === 0) start += 1;
  const digits = bigEndian.subarray(start);
  const needsSign = (digits[0] ?? 0) >= 0x80;
  return element(tag.integer, needsSign ? Buffer.concat([Buffer.from([0]), digits]) : digits);
}

/** `unusedBits`: how many of the last byte's low bits are padding. */
export function bitString(bytes: Uint8Array, unusedBits = 0): Buffer {
  return element(tag.bitString, Buffer.concat([Buffer.from([unusedBits]), bytes]));
}

export function octetString(bytes: Uint8Array): Buffer {
  return element(tag.octetString, bytes);
}

/** From the dotted form, e.g. `2.5.29.17`. */
export function objectIdentifier(dotted: string): Buffer {
  const [first = 0, second = 0, ...rest] = dotted.split('.').map(Number);
  const bytes: number[] = [];
  for (const arc of [first * 40 + second, ...rest]) {
    const groups = [arc % 128];
    for (let high = Math.floor(arc / 128); high > 0; high = Math.floor(high / 128)) groups.unshift(0x80 | (high % 128));
    bytes.push(...groups);
  }
  return element(tag.objectIdentifier, Buffer.from(bytes));
}

export function utf8String(text: string): Buffer {
  return element(tag.utf8String, Buffer.from(text, 'utf8'));
}

/** X.509 wants UTCTime (two-digit years) before 2050 and GeneralizedTime from then on (RFC 5280 §4.1.2.5). */
export function time(date: Date): Buffer {
  const digits = date.toISOString().replace(/[-:T]|\.\d+/g, '');
  return date.getUTCFullYear() < 2050
    ? element(tag.utcTime, Buffer.from(digits.slice(2)))
    : element(tag.generalizedTime, Buffer.from(digits));
}

/** Context-specific tag [number]: constructed wraps whole elements (EXPLICIT), primitive replaces a tag (IMPLICIT). */
export function context(number: number, kind: 'constructed' | 'primitive', content: Uint8Array): Buffer {
  return element((kind === 'constructed' ? 0xa0 : 0x80) | number, content);
}
