/**
 * The bytes of a room's history, for those who join later. Little-endian, no header, one record of 84 bytes for each point:
 *
 *   f64  step, loss, gradNorm, lr, ms, tokens, bytesDown, bytesUp, validationLoss (0 when there is none)
 *   u32  1: has a validation loss, 2: has a replica hash
 *   u32  high and low half of the replica hash
 *
 * At this size the longest run fits one blob. What arrives comes from another peer and is checked as such; whether it is the
 * history that was announced is the room's machine's to say.
 */
import * as v from 'valibot';
import { historyPointSchema } from '../room/messages.ts';
import type { HistoryPoint } from '../room/messages.ts';

const numbers = ['step', 'loss', 'gradNorm', 'lr', 'ms', 'tokens', 'bytesDown', 'bytesUp'] as const;
const validationOffset = 8 * numbers.length;
const marksOffset = validationOffset + 8;
const hashOffset = marksOffset + 4;
const recordBytes = hashOffset + 8;
const mark = { validationLoss: 1, replicaHash: 2 } as const;
const allMarks = mark.validationLoss | mark.replicaHash;

export class HistoryError extends Error {
  override readonly name = 'HistoryError';
}

export interface EncodedHistory {
  readonly bytes: ArrayBuffer;
  /** Finds damage; it is no signature. */
  readonly checksum: string;
}

export function encodeHistory(history: readonly HistoryPoint[]): EncodedHistory {
  const bytes = new ArrayBuffer(history.length * recordBytes);
  const view = new DataView(bytes);
  history.forEach((point, index) => {
    const at = index * recordBytes;
    numbers.forEach((name, place) => {
      view.setFloat64(at + 8 * place, point[name], true);
    });
    const { validationLoss, replicaHash } = point;
    view.setFloat64(at + validationOffset, validationLoss ?? 0, true);
    const marks = (validationLoss === undefined ? 0 : mark.validationLoss) | (replicaHash === undefined ? 0 : mark.replicaHash);
    view.setUint32(at + marksOffset, marks, true);
    if (replicaHash === undefined) return;
    view.setUint32(at + hashOffset, Number.parseInt(replicaHash.slice(0, 8), 16), true);
    view.setUint32(at + hashOffset + 4, Number.parseInt(replicaHash.slice(8), 16), true);
  });
  return { bytes, checksum: checksumOf(bytes) };
}

export interface ExpectedHistory {
  readonly checksum: string;
  readonly points: number;
  /** All steps are below it. */
  readonly endStep: number;
}

/** Throws `HistoryError` unless the bytes are so many valid points in the order of their steps: they come from another peer. */
export function decodeHistory(bytes: ArrayBuffer, { checksum, points, endStep }: ExpectedHistory): HistoryPoint[] {
  if (bytes.byteLength !== points * recordBytes) {
    throw new HistoryError(`history of ${bytes.byteLength} bytes instead of ${points * recordBytes}`);
  }
  if (checksumOf(bytes) !== checksum) throw new HistoryError('history with another checksum than it should have');
  const view = new DataView(bytes);
  let previousStep = -1;
  return Array.from({ length: points }, (_, index) => {
    const parsed = v.safeParse(historyPointSchema, recordAt(view, index * recordBytes));
    if (!parsed.success) throw new HistoryError(`history whose point ${index} is not valid`);
    const { step } = parsed.output;
    if (step <= previousStep || step >= endStep) throw new HistoryError(`history with step ${step} at place ${index}`);
    previousStep = step;
    return parsed.output;
  });
}

function recordAt(view: DataView, at: number): Readonly<Record<string, unknown>> {
  const marks = view.getUint32(at + marksOffset, true);
  if (marks > allMarks) throw new HistoryError('history with marks that mean nothing');
  const record: Record<string, unknown> = {};
  numbers.forEach((name, place) => {
    record[name] = view.getFloat64(at + 8 * place, true);
  });
  if ((marks & mark.validationLoss) !== 0) record['validationLoss'] = view.getFloat64(at + validationOffset, true);
  if ((marks & mark.replicaHash) !== 0) {
    record['replicaHash'] = hexOf(view.getUint32(at + hashOffset, true)) + hexOf(view.getUint32(at + hashOffset + 4, true));
  }
  return record;
}

/** FNV-1a (Fowler, Noll, Vo; public domain) with its 32-bit prime, over 32-bit words instead of bytes. */
export function checksumOf(bytes: ArrayBuffer): string {
  const view = new DataView(bytes);
  let hash = 0x811c9dc5;
  for (let at = 0; at < bytes.byteLength; at += 4) hash = Math.imul(hash ^ view.getUint32(at, true), 0x01000193);
  return hexOf(hash >>> 0);
}

function hexOf(word: number): string {
  return word.toString(16).padStart(8, '0');
}
