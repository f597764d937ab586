/**
 * What opening a large text costs: a stream that is made up as it is read becomes tokens in pieces, which are dropped as a disk would
 * take them. Bytes in, tokens out, and the most memory that was in use.
 */
import type { Options, Table } from './benchmark.ts';
import { characterTokenizerMaker, prepareCorpus } from '../../src/data/preparation.ts';
import { fileOfStream } from '../../src/data/sources/data-file.ts';
import { readDocuments } from '../../src/data/sources/documents.ts';

const mebibyte = 2 ** 20;
const chunkBytes = 2 ** 16;

function generated(bytes: number): ReadableStream<Uint8Array> {
  const line = 'Call me Ishmael. Some years ago, never mind how long precisely, I went to sea.\n\n';
  const chunk = new TextEncoder().encode(line.repeat(Math.ceil(chunkBytes / line.length))).subarray(0, chunkBytes);
  let given = 0;
  return new ReadableStream({
    pull(controller) {
      if (given >= bytes) controller.close();
      else controller.enqueue(chunk.slice());
      given += chunkBytes;
    },
  });
}

export const options = { mebibytes: 2048 } as const;

export async function run({ mebibytes = options.mebibytes }: Options): Promise<readonly Table[]> {
  const bytes = mebibytes * mebibyte;
  let [peakHeap, peakBuffers, written] = [0, 0, 0];
  const look = (): void => {
    const { heapUsed, arrayBuffers } = process.memoryUsage();
    [peakHeap, peakBuffers] = [Math.max(peakHeap, heapUsed), Math.max(peakBuffers, arrayBuffers)];
  };
  const before = process.cpuUsage();
  const { index } = await prepareCorpus({
    documents: (onBytes) => readDocuments([fileOfStream('generated.txt', generated(bytes))], { onBytes }),
    tokenizer: characterTokenizerMaker(),
    onProgress: look,
    sink: (piece) => void (written += piece.byteLength),
  });
  look();
  const { user, system } = process.cpuUsage(before);
  const figure = (value: number): string => (value / mebibyte).toFixed(0);
  return [
    {
      title: 'a generated text read, tokenized by character and cut into pieces',
      columns: ['MiB in', 'tokens', 'MiB out', 's of CPU', 'MiB of heap at most', 'MiB of buffers at most'],
      rows: [[figure(bytes), String(index.tokenCount), figure(written), ((user + system) / 1e6).toFixed(1), figure(peakHeap), figure(peakBuffers)]],
    },
  ];
}
