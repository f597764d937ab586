/**
 * Bytes with a name, wherever they are: a file of the page, a stream, an address. What is in them is for the formats to find out;
 * nothing is read before it is asked for.
 */
import { DataError } from '../errors.ts';

export interface DataFile {
  /** As a person knows it: its path in what was chosen, or its address. */
  readonly name: string;
  /** Bytes; null where nobody knows before the end. */
  readonly size: number | null;
  /** From the beginning, each time it is called. Throws `DataError` where that can't be. */
  stream(): Promise<ReadableStream<Uint8Array>>;
  /** The size, which may have to be asked for. Throws `DataError` where nobody says. */
  measure(): Promise<number>;
  /** Bytes [start, end). Throws `DataError` where only streams are to be had, and where there are fewer bytes. */
  slice(start: number, end: number): Promise<ArrayBuffer>;
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Moved or changed files are noticed when they are read. */
function unreadable(name: string, error: unknown): DataError {
  return new DataError(`${name} can't be read (${reasonOf(error)}): it may have been moved or changed since it was chosen, so choose it again`);
}

export function fileOfBlob(name: string, blob: Blob): DataFile {
  return {
    name,
    size: blob.size,
    measure: () => Promise.resolve(blob.size),
    stream: () => Promise.resolve(failingAs(blob.stream(), (error) => unreadable(name, error))),
    async slice(start, end) {
      try {
        return await blob.slice(start, end).arrayBuffer();
      } catch (error) {
        throw unreadable(name, error);
      }
    },
  };
}

/** A stream can be read once. */
export function fileOfStream(name: string, stream: ReadableStream<Uint8Array>): DataFile {
  let isRead = false;
  return {
    name,
    size: null,
    stream() {
      if (isRead) return Promise.reject(new DataError(`${name} is a stream, which can be read only once`));
      isRead = true;
      return Promise.resolve(failingAs(stream, (error) => unreadable(name, error)));
    },
    measure: () => Promise.reject(new DataError(`${name} is a stream, and its format needs a file`)),
    slice: () => Promise.reject(new DataError(`${name} is a stream, and its format needs a file`)),
  };
}

export interface UrlOptions {
  /** Default: the browser's or Node's own. */
  readonly fetch?: typeof fetch;
  readonly signal?: AbortSignal;
}

/** A file at an http or https address, given by another name where that says more. Throws `DataError` for any other address. */
export function fileOfUrl(address: string, { fetch: ask = fetch, signal }: UrlOptions = {}, name = address): DataFile {
  const url = URL.canParse(address) ? new URL(address) : null;
  if (url?.protocol !== 'http:' && url?.protocol !== 'https:') throw new DataError(`${address} is not an address that begins with https:// or http://`);
  async function answer(init: RequestInit): Promise<Response> {
    let response;
    try {
      response = await ask(address, { ...init, ...(signal !== undefined && { signal }) });
    } catch (error) {
      if (signal?.aborted === true) throw error;
      throw new DataError(
        `${name} can't be reached (${reasonOf(error)}): the address may be wrong, the server down, or it does not allow pages of other sites to read it (CORS); then download the file and give it itself`,
      );
    }
    if (!response.ok) throw new DataError(`${name}: the server answered with status ${response.status}${response.statusText === '' ? '' : ` (${response.statusText})`}`);
    return response;
  }
  return {
    name,
    size: null,
    async stream() {
      const { body } = await answer({});
      if (body === null) throw new DataError(`${name}: the server answered without content`);
      return failingAs(body, (error) => new DataError(`${name}: the connection broke off (${reasonOf(error)}); try again`));
    },
    async measure() {
      const length = Number((await answer({ method: 'HEAD' })).headers.get('content-length') ?? NaN);
      if (Number.isSafeInteger(length) && length > 0) return length;
      throw new DataError(`${name}: the server does not say how large the file is, which this format needs; download the file and give it itself`);
    },
    async slice(start, end) {
      const response = await answer({ headers: { Range: `bytes=${start}-${end - 1}` } });
      if (response.status !== 206) {
        await response.body?.cancel();
        throw new DataError(`${name}: the server does not send parts of files, which this format needs; download the file and give it itself`);
      }
      const bytes = await response.arrayBuffer();
      if (bytes.byteLength !== end - start) throw new DataError(`${name}: the server sent ${bytes.byteLength} of ${end - start} bytes`);
      return bytes;
    },
  };
}

/** The same bytes; what goes wrong on the way is said in other words. */
function failingAs(stream: ReadableStream<Uint8Array>, explained: (error: unknown) => Error): ReadableStream<Uint8Array> {
  const reader = stream.getReader();
  return new ReadableStream<Uint8Array>({
    async pull(controller) {
      try {
        const { done, value } = await reader.read();
        if (done) controller.close();
        else controller.enqueue(value);
      } catch (error) {
        controller.error(error instanceof DOMException && error.name === 'AbortError' ? error : explained(error));
      }
    },
    cancel: (reason) => reader.cancel(reason),
  }, { highWaterMark: 0 });
}
