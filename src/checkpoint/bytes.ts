/**
 * Files as readers see them: a name, a size, and ranges of bytes on demand, so that a file of gigabytes is never in memory.
 * Opens nothing: a page has Blobs, Node has handles, a zip has entries.
 */

/** What is wrong with a file that a person gave us; the message names the file and the place in it. */
export class ModelFileError extends Error {
  override readonly name: string = 'ModelFileError';
}

export interface ByteSource {
  /** As a person knows it, for messages. */
  readonly name: string;
  readonly size: number;
  /** Exactly these bytes, in memory of their own. Callers check the range against `size`; throws `ModelFileError` when the file has changed. */
  read(offset: number, length: number): Promise<Uint8Array<ArrayBuffer>>;
}

/** A `File` or `Blob` of the page. */
export function blobSource(name: string, blob: Blob): ByteSource {
  return {
    name,
    size: blob.size,
    async read(offset, length) {
      const bytes = new Uint8Array(await blob.slice(offset, offset + length).arrayBuffer());
      if (bytes.length !== length) throw new ModelFileError(`${name}: ended at byte ${offset + bytes.length} of ${blob.size}; was it changed meanwhile?`);
      return bytes;
    },
  };
}

/** Bytes that are in memory already. */
export function memorySource(name: string, bytes: Uint8Array): ByteSource {
  return {
    name,
    size: bytes.length,
    read: (offset, length) => Promise.resolve(new Uint8Array(bytes.subarray(offset, offset + length))),
  };
}

/** More than any configuration, tokenizer or index has; a tokenizer of 250,000 tokens takes 12 MB. */
const maxTextBytes = 64 * 2 ** 20;

/** A whole text file. Throws `ModelFileError` where it is too long, or not UTF-8. */
export async function readTextFile(source: ByteSource): Promise<string> {
  if (source.size > maxTextBytes) throw new ModelFileError(`${source.name}: has ${source.size} bytes, more than the ${maxTextBytes} that such a file may have`);
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(await source.read(0, source.size));
  } catch (error) {
    if (error instanceof TypeError) throw new ModelFileError(`${source.name}: is not a text in UTF-8`);
    throw error;
  }
}

/** Throws `ModelFileError` where the text is no JSON. */
export async function readJsonFile(source: ByteSource): Promise<unknown> {
  const text = await readTextFile(source);
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new ModelFileError(`${source.name}: is not valid JSON: ${error instanceof Error ? error.message : String(error)}`);
  }
}
