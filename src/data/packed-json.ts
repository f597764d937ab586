/** JSON as a short text: compressed (gzip), then in base64. What is read is checked for its size while it is unpacked. */
import { TokenizerError } from './errors.ts';

const bytesAtOnce = 2 ** 15;

async function through(bytes: Uint8Array<ArrayBuffer>, stream: CompressionStream | DecompressionStream, mostBytes: number): Promise<Uint8Array<ArrayBuffer>> {
  // Not `for await`: not every browser's streams can be iterated.
  const reader = new Blob([bytes]).stream().pipeThrough(stream).getReader();
  const parts: Uint8Array<ArrayBuffer>[] = [];
  let length = 0;
  for (let read = await reader.read(); !read.done; read = await reader.read()) {
    length += read.value.byteLength;
    if (length > mostBytes) {
      await reader.cancel();
      throw new TokenizerError(`a tokenizer unpacks to more than ${mostBytes} bytes`);
    }
    parts.push(read.value);
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}

export async function packed(value: unknown): Promise<string> {
  const bytes = await through(new TextEncoder().encode(JSON.stringify(value)), new CompressionStream('gzip'), Infinity);
  const parts: string[] = [];
  for (let at = 0; at < bytes.length; at += bytesAtOnce) parts.push(String.fromCharCode(...bytes.subarray(at, at + bytesAtOnce)));
  return btoa(parts.join(''));
}

/** Throws `TokenizerError` for what `packed` could not have written, or what is larger than `mostBytes`. */
export async function unpacked(text: string, mostBytes: number): Promise<unknown> {
  try {
    const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(await through(bytes, new DecompressionStream('gzip'), mostBytes))) as unknown;
  } catch (error) {
    if (error instanceof TokenizerError) throw error;
    throw new TokenizerError('a packed tokenizer is damaged');
  }
}
