/**
 * How byte-level tokenizers write a byte as a visible character (GPT-2, Radford et al. 2019): printable Latin-1 characters stand
 * for their own byte, all other bytes for the characters from U+0100 on. A token's id is not its character: bytes are numbered
 * in the order of this table, as in GPT-2's vocabulary.
 */
const printable: readonly (readonly [first: number, last: number])[] = [
  [0x21, 0x7e],
  [0xa1, 0xac],
  [0xae, 0xff],
];

const isPrintable = (byte: number): boolean => printable.some(([first, last]) => byte >= first && byte <= last);
const everyByte = Array.from({ length: 256 }, (_, byte) => byte);

/** byteOfId[id] for the 256 ids that stand for single bytes. */
export const byteOfId: readonly number[] = [...everyByte.filter(isPrintable), ...everyByte.filter((byte) => !isPrintable(byte))];

/** idOfByte[byte]. */
export const idOfByte: readonly number[] = everyByte.map((byte) => byteOfId.indexOf(byte));

const printableCount = everyByte.filter(isPrintable).length;

/** characterOfId[id], of the 256 ids that stand for single bytes. */
export const characterOfId: readonly string[] = byteOfId.map((byte, id) => String.fromCharCode(id < printableCount ? byte : 0x100 + id - printableCount));
