/** What a checkpoint holds. Stored whole by the worker, checksummed; the last two of a room are kept. */

/** Everything AdamW needs to go on: fp32, by the parameter layout, padding included. */
export interface MasterState {
  /** Steps applied so far. */
  readonly step: number;
  readonly weights: ArrayBuffer;
  readonly firstMoments: ArrayBuffer;
  readonly secondMoments: ArrayBuffer;
}

/** Facts of a run that never change, stored once: enough to draw its batches again. */
export interface RunRecord {
  readonly room: string;
  readonly key: string;
  readonly title: string;
  /** Serialized run description (settings and tokenizer), as sent in every welcome. */
  readonly run: string;
  /** The corpus as token ids. */
  readonly tokens: Uint32Array;
  readonly createdAtMs: number;
  readonly name: string;
}

export interface Checkpoint {
  readonly room: string;
  readonly term: number;
  readonly step: number;
  readonly savedAtMs: number;
  readonly startedAtMs: number;
  readonly loss: number | null;
  /** JSON of the history points up to `step`. */
  readonly history: string;
  readonly state: MasterState;
}
