/** A corpus' pieces in one file of the system's temporary folder, for as long as a command runs. */
import { mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { PieceSink } from '../data/token-pieces.ts';

export interface PieceFile {
  readonly sink: PieceSink;
  readonly piece: (number: number) => Promise<ArrayBuffer>;
  /** Removes it. */
  close(): Promise<void>;
}

export async function openPieceFile(): Promise<PieceFile> {
  const folder = await mkdtemp(join(tmpdir(), 'cotrain-tokens-'));
  const file = await open(join(folder, 'pieces'), 'w+');
  const ends: number[] = [0];
  return {
    async sink(piece) {
      const at = ends.at(-1) ?? 0;
      await file.write(new Uint8Array(piece), 0, piece.byteLength, at);
      ends.push(at + piece.byteLength);
    },
    async piece(number) {
      const [from, to] = [ends[number], ends[number + 1]];
      if (from === undefined || to === undefined) throw new RangeError(`there is no piece ${number}`);
      const bytes = new Uint8Array(to - from);
      await file.read(bytes, 0, bytes.length, from);
      return bytes.buffer;
    },
    async close() {
      await file.close();
      await rm(folder, { recursive: true });
    },
  };
}
