/** The session's state as one immutable value, and who wants to know when it changes. Decides nothing. */
import type { SessionState } from './types.ts';

export const initialState: SessionState = {
  phase: 'idle',
  role: 'none',
  room: null,
  title: '',
  isOwner: false,
  link: null,
  inviteLink: null,
  selfId: null,
  name: '',
  term: 0,
  step: 0,
  steps: 0,
  loss: null,
  validationLoss: null,
  bitsPerByte: null,
  validationBytesPerToken: null,
  tokensPerSecond: 0,
  ownTokensPerSecond: 0,
  elapsedMs: 0,
  remainingMs: null,
  peers: [],
  gone: [],
  pace: null,
  sentAs: null,
  connections: [],
  history: [],
  replicaHash: null,
  settings: null,
  isByCharacter: true,
  tokenizing: null,
  changes: [],
  parameterCount: null,
  expectedInitialLoss: null,
  device: null,
  sample: null,
  sampleTemperature: 0.8,
  canGenerate: false,
  hasChat: false,
  kept: [],
  lastCheckpoint: null,
  signalling: 'unused',
  problem: null,
  notices: [],
};

const keptNotices = 50;

export class StateStore {
  #state = initialState;
  #announced = true;
  readonly #listeners = new Set<(state: SessionState) => void>();

  get state(): SessionState {
    return this.#state;
  }

  update(patch: Partial<SessionState>): void {
    this.#state = { ...this.#state, ...patch };
    if (!this.#announced) return;
    // Several changes within one task are told once.
    this.#announced = false;
    queueMicrotask(() => {
      this.#announced = true;
      for (const listener of this.#listeners) listener(this.#state);
    });
  }

  notice(text: string): void {
    this.update({ notices: [...this.#state.notices, { atMs: Date.now(), text }].slice(-keptNotices) });
  }

  subscribe(listener: (state: SessionState) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}
