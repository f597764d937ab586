/** What a checkpoint holds. Stored whole by the worker, checksummed; the last two of a room are kept. */

/** Everything the room's optimizer needs to go on: fp32, by the parameter layout, padding included. */
export interface MasterState {
  /** Steps applied so far. */
  readonly step: number;
  /** The replica. */
  readonly weights: ArrayBuffer;
  /** Of the room's own optimizer: empty where it has no such thing. */
  readonly firstMoments: ArrayBuffer;
  readonly secondMoments: ArrayBuffer;
  /** What the replica follows, where updates are changes in a lossy codec; absent where it is the same. */
  readonly masterWeights?: ArrayBuffer;
}

/** Facts of a run, stored once, and changed by nobody but the room's owner: enough to draw its batches again. */
export interface RunRecord {
  readonly room: string;
  readonly key: string;
  readonly title: string;
  /** Serialized run description (settings and tokenizer), as sent in every welcome. */
  readonly run: string;
  /** Steps of the whole run, for the list of saved runs. */
  readonly steps: number;
  /** The name of its corpus here; of a run that was saved before corpora had names, its token ids. */
  readonly corpus: string | Uint32Array;
  readonly createdAtMs: number;
  readonly name: string;
  /** JSON of what the room's owner has decided since; runs that were saved before there was such a thing don't have it. */
  readonly rules?: string;
}

/** Of a run's facts, what the room's owner can change. */
export type RunChange = Partial<Pick<RunRecord, 'key' | 'title' | 'steps' | 'rules'>>;

/** What a checkpoint says of itself without its weights. */
export interface CheckpointFacts {
  readonly room: string;
  readonly term: number;
  readonly step: number;
  readonly savedAtMs: number;
  readonly startedAtMs: number;
  readonly loss: number | null;
  /** JSON of the history points up to `step`. */
  readonly history: string;
}

export interface Checkpoint extends CheckpointFacts {
  readonly state: MasterState;
}

/** A line of the list of saved runs: what the newest checkpoint says, without reading weights. */
export interface SavedRunSummary {
  readonly room: string;
  readonly title: string;
  readonly savedAtMs: number;
  /** Of everything kept for the run: corpus and both checkpoints. */
  readonly bytes: number;
  readonly step: number;
  readonly steps: number;
  readonly loss: number | null;
}

/** How far a room's run has been saved; step 0 where there is a run and no checkpoint yet. */
export interface SavedProgress {
  readonly step: number;
  /** As the run has them. */
  readonly rules?: string;
  /** The highest under which anything was saved; 1 where there is no checkpoint yet. */
  readonly term: number;
}

/** What reading a room's newest good checkpoint found. */
export interface LoadedCheckpoint {
  readonly checkpoint: Checkpoint;
  /** Newer ones that were damaged (and have been removed). */
  readonly damagedNewer: number;
}
