/**
 * Which piece of a replica is asked of whom. Pieces are asked of all who have a copy at once, of the faster ones more, and of
 * the coordinator sparingly while others serve: it has a step to bring on. Who is slow, wrong or gone is done without. No
 * timers, connections or hashes here: the simulator runs it too.
 */

/** Somebody with a copy, once it can be asked. */
export interface PieceSource {
  want(piece: number): void;
  close(): void;
}

export interface PieceFetchOptions {
  /** Pieces still missing. */
  readonly missing: readonly number[];
  readonly coordinator: Pick<PieceSource, 'want'>;
  readonly others: readonly string[];
  /** Connects; `opened` gets null when that fails, and may be called at once. */
  readonly open: (peer: string, opened: (source: PieceSource | null) => void) => void;
  /** Puts the piece where it belongs and says whether it is what was announced. */
  readonly keep: (piece: number, bytes: ArrayBuffer, verdict: (isRight: boolean) => void) => void;
  readonly done: () => void;
  readonly failed: (reason: string) => void;
}

interface Asked {
  readonly source: Pick<PieceSource, 'want'> & Partial<Pick<PieceSource, 'close'>>;
  /** When each open request was made. */
  readonly wanted: Map<number, number>;
}

const requestsAtOnce = 4;
/** Of the coordinator, while others serve. */
const sparingRequests = 1;
/** Of another source that has not answered for so long, nothing is expected any more. */
const stalledMs = 4_000;

/** A fetch for which nothing has come for so long is given up, whoever still owes it a piece. */
export const hopelessFetchMs = 30_000;

/** The name of the coordinator among the sources. */
export const coordinatorSource = 'coordinator';

export class PieceFetch {
  readonly #options: PieceFetchOptions;
  readonly #sources = new Map<string, Asked>();
  readonly #missing: Set<number>;
  /** Not asked of anybody; the next is the last. */
  readonly #todo: number[];
  #opening = 0;
  #nowMs: number;
  #progressAtMs: number;
  #isOver = false;

  constructor(options: PieceFetchOptions, nowMs: number) {
    this.#options = options;
    this.#nowMs = nowMs;
    this.#progressAtMs = nowMs;
    this.#missing = new Set(options.missing);
    this.#todo = [...options.missing].reverse();
    this.#sources.set(coordinatorSource, { source: options.coordinator, wanted: new Map() });
  }

  start(): void {
    if (this.#missing.size === 0) {
      this.#end();
      this.#options.done();
      return;
    }
    for (const peer of this.#options.others) {
      this.#opening += 1;
      this.#options.open(peer, (source) => {
        this.#opening -= 1;
        if (this.#isOver) {
          source?.close();
        } else {
          if (source !== null) this.#sources.set(peer, { source, wanted: new Map() });
          this.#proceed();
        }
      });
    }
    this.#proceed();
  }

  arrived(from: string, piece: number, bytes: ArrayBuffer): void {
    // Delivered twice, or not asked for.
    if (this.#isOver || this.#sources.get(from)?.wanted.delete(piece) !== true) return;
    if (this.#missing.has(piece)) {
      this.#options.keep(piece, bytes, (isRight) => {
        this.#kept(from, piece, isRight);
      });
    }
    this.#proceed();
  }

  /** Somebody has no such copy, or is not there any more. */
  gone(from: string): void {
    if (this.#isOver) return;
    const asked = this.#sources.get(from);
    if (asked === undefined) return;
    this.#sources.delete(from);
    asked.source.close?.();
    for (const piece of asked.wanted.keys()) this.#again(piece);
    this.#proceed();
  }

  tick(nowMs: number): void {
    this.#nowMs = nowMs;
    for (const [name, { wanted }] of this.#sources) {
      const oldestMs = Math.min(...wanted.values());
      // The connection to the coordinator is watched by the machine.
      if (name !== coordinatorSource && nowMs - oldestMs > stalledMs) this.gone(name);
    }
    if (nowMs - this.#progressAtMs > hopelessFetchMs) this.#fail('no piece of the weights came for a long time');
  }

  abort(): void {
    this.#end();
  }

  #kept(from: string, piece: number, isRight: boolean): void {
    if (this.#isOver) return;
    if (!isRight) {
      this.#again(piece);
      this.gone(from);
    } else if (this.#missing.delete(piece)) {
      this.#progressAtMs = this.#nowMs;
      if (this.#missing.size > 0) return;
      this.#end();
      this.#options.done();
    }
  }

  #again(piece: number): void {
    const isAsked = [...this.#sources.values()].some(({ wanted }) => wanted.has(piece));
    if (this.#missing.has(piece) && !isAsked && !this.#todo.includes(piece)) this.#todo.push(piece);
  }

  /** Everybody gets as much to do as is good for the room. */
  #proceed(): void {
    if (this.#isOver) return;
    if (this.#sources.size === 0 && this.#opening === 0) {
      this.#fail('nobody who has a copy of the weights can be reached');
      return;
    }
    for (const [name, asked] of this.#sources) {
      const most = name === coordinatorSource && this.#sources.size > 1 ? sparingRequests : requestsAtOnce;
      while (asked.wanted.size < most) {
        const piece = this.#todo.pop() ?? (name === coordinatorSource ? undefined : this.#askedOfAnother(asked));
        if (piece === undefined) break;
        asked.wanted.set(piece, this.#nowMs);
        asked.source.want(piece);
      }
    }
  }

  /** Near the end whoever is idle repeats what was asked of one other, so that the slowest does not keep everybody waiting. */
  #askedOfAnother(idle: Asked): number | undefined {
    const times = new Map<number, number>();
    for (const { wanted } of this.#sources.values()) for (const piece of wanted.keys()) times.set(piece, (times.get(piece) ?? 0) + 1);
    for (const [piece, count] of times) if (count === 1 && !idle.wanted.has(piece) && this.#missing.has(piece)) return piece;
    return undefined;
  }

  #fail(reason: string): void {
    if (this.#isOver) return;
    this.#end();
    this.#options.failed(reason);
  }

  #end(): void {
    this.#isOver = true;
    for (const { source } of this.#sources.values()) source.close?.();
    this.#sources.clear();
  }
}
