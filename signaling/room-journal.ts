/**
 * The directory's rooms on disk, so that a server that was restarted knows whose lead it has granted. One line of JSON per
 * change, written before the change is answered; now and then the file is written anew, without what is past. Times are by
 * the wall clock, the only one that survives a restart.
 */
import { closeSync, fdatasyncSync, existsSync, mkdirSync, openSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync, writeSync } from 'node:fs';
import path from 'node:path';
import * as v from 'valibot';
import { roomLifetimeMs } from './directory.ts';
import type { KeptRoom, RoomKeeper } from './directory.ts';
import { systemErrorCode } from './problem.ts';

/** 32 bytes, base64url. */
const hash = v.pipe(v.string(), v.regex(/^[A-Za-z0-9_-]{43}$/));
const count = v.pipe(v.number(), v.integer(), v.minValue(0));
const lineSchema = v.strictObject({
  id: v.string(),
  touchedAtMs: count,
  room: v.strictObject({
    tokenHash: hash,
    createdFrom: v.string(),
    coordinator: v.string(),
    holderHash: hash,
    isReclaimed: v.boolean(),
    term: count,
    step: count,
    sequence: count,
    isReleased: v.boolean(),
    successorHash: v.nullable(hash),
  }),
});
type Line = v.InferOutput<typeof lineSchema>;

/** Below this many bytes, no file is written anew. */
const leastBytes = 1024 * 1024;
const prefix = 'rooms-';

export interface RememberedRoom {
  readonly id: string;
  readonly room: KeptRoom;
  /** Since its newest change. */
  readonly ageMs: number;
}

export class RoomJournal implements RoomKeeper {
  readonly #file: string;
  readonly #failed: (why: string) => void;
  /** The newest line of each room. */
  readonly #lines = new Map<string, Line>();
  /** null: rooms are in memory alone. */
  #descriptor: number | null = null;
  #bytes = 0;
  #mostBytes = 0;

  /** Reads `file` if there is one. `failed` is told once, when the disk refuses: from then on nothing is kept. */
  constructor(file: string, failed: (why: string) => void) {
    this.#file = file;
    this.#failed = failed;
    this.#attempt(() => {
      for (const text of readLines(file)) {
        const line = parseLine(text);
        if (line !== null && Date.now() - line.touchedAtMs < roomLifetimeMs) this.#lines.set(line.id, line);
      }
      this.#writeAnew();
    });
  }

  /** Those that somebody has touched within their lifetime. */
  get rooms(): readonly RememberedRoom[] {
    const nowMs = Date.now();
    return [...this.#lines.values()].map(({ id, room, touchedAtMs }) => ({ id, room, ageMs: Math.max(0, nowMs - touchedAtMs) }));
  }

  keep(id: string, room: KeptRoom, isGrave: boolean): void {
    if (this.#descriptor === null) return;
    const line: Line = { id, touchedAtMs: Date.now(), room };
    this.#lines.set(id, line);
    const descriptor = this.#descriptor;
    this.#attempt(() => {
      this.#bytes += writeSync(descriptor, asText(line));
      // What a process has written outlives it. A machine without power is away for longer than a lease lasts: by then it
      // matters who may lead, and no longer at which step.
      if (isGrave) fdatasyncSync(descriptor);
      if (this.#bytes > this.#mostBytes) this.#writeAnew();
    });
  }

  drop(id: string): void {
    this.#lines.delete(id);
  }

  close(): void {
    if (this.#descriptor !== null) closeSync(this.#descriptor);
    this.#descriptor = null;
  }

  #writeAnew(): void {
    this.close();
    const text = [...this.#lines.values()].map(asText).join('');
    const partial = `${this.#file}.partial`;
    mkdirSync(path.dirname(this.#file), { recursive: true, mode: 0o700 });
    writeFileSync(partial, text, { mode: 0o600, flush: true });
    renameSync(partial, this.#file);
    this.#bytes = Buffer.byteLength(text);
    this.#mostBytes = leastBytes + 2 * this.#bytes;
    this.#descriptor = openSync(this.#file, 'a', 0o600);
  }

  #attempt(write: () => void): void {
    try {
      write();
    } catch (error) {
      this.close();
      this.#lines.clear();
      this.#failed(systemErrorCode(error) ?? String(error));
      removeStale(this.#file);
    }
  }
}

/** It would bring back a lead that somebody else has had since. */
function removeStale(file: string): void {
  try {
    rmSync(file, { force: true });
  } catch {
    // A disk that takes neither writing nor removing is one that the person has just been told of.
  }
}

function asText(line: Line): string {
  return `${JSON.stringify(line)}\n`;
}

/** A line that a crash cut short is the last one, and what it says was never answered. */
function parseLine(text: string): Line | null {
  try {
    const line = v.safeParse(lineSchema, JSON.parse(text));
    return line.success ? line.output : null;
  } catch {
    return null;
  }
}

function readLines(file: string): readonly string[] {
  try {
    return readFileSync(file, 'utf8').split('\n');
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return [];
    throw error;
  }
}

/** Where a server at this address keeps its rooms: two at different ports have different ones. */
export function journalFile(folder: string, host: string | null, port: number): string {
  return path.join(folder, `${prefix}${host === null ? '' : `${encodeURIComponent(host)}-`}${port}.jsonl`);
}

/** Removes files of servers that have not run for so long that all of their rooms are forgotten. */
export function removeOldJournals(folder: string): void {
  for (const name of existsSync(folder) ? readdirSync(folder) : []) {
    const file = path.join(folder, name);
    if (name.startsWith(prefix) && Date.now() - statSync(file).mtimeMs > roomLifetimeMs) rmSync(file, { force: true });
  }
}
