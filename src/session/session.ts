/**
 * The session of a page: one room at a time, led or joined, on this page's trainer worker. What a person wants is asked for
 * here, and answered with a state to show. Which part the page plays in its room, and what changes that, is `roles.ts`.
 */
import { askForPersistence } from '../checkpoint/persistence.ts';
import { openPieceCache } from '../checkpoint/piece-cache.ts';
import { noRules } from '../room/rules.ts';
import type { DeviceReport } from '../trainer/types.ts';
import { deserializeTokenizer, tokenizerFacts } from '../data/serialized-tokenizer.ts';
import type { TokenizedText } from '../data/tokenized-text.ts';
import { piecesOfText } from '../data/token-pieces.ts';
import { keepCorpus } from '../trainer/keep-corpus.ts';
import { openCorpus } from './corpora.ts';
import { textOf } from './corpus.ts';
import { Gpu } from './gpu.ts';
import { recordOf } from './lead.ts';
import type { RunData } from './lead.ts';
import { newRoomAddress, notALink, parseRoomLink } from './link.ts';
import type { RoomAddress } from './link.ts';
import { forgetHolder, recalledTab } from './memory.ts';
import { ownerControls } from './owner-desk.ts';
import { forgetOwner, makeOwner } from './owner.ts';
import { WakeLock, titleOf } from './page.ts';
import { problem as describeProblem, storageProblemOf } from './problems.ts';
import { composeRun, estimateRun, factsOfData, withValidationBytes } from './run.ts';
import type { Beginning } from './run.ts';
import { scheduleOf } from './schedule.ts';
import { Roles, SessionError } from './roles.ts';
import { StateStore } from './state.ts';
import type { FilesDesk } from './files-desk.ts';
import { TextTokens } from './text-tokens.ts';
import type { TextChoice } from '../data/tokenizer-choice.ts';
import type { Writer } from './writer.ts';
import type { CreateSettings, FileControls, RunEstimate, SavedRun, SessionController, SessionState } from './types.ts';

const defaultName = 'Guest';

export function createSession(): SessionController {
  return new Session();
}

/** A model that a run begins with brings its tokenizer along. */
function choiceOf({ tokenizer }: CreateSettings, beginning: Beginning | null): TextChoice {
  return beginning === null ? (tokenizer ?? { kind: 'characters' }) : { kind: 'given', tokenizer: beginning.tokenizer.serialize() };
}

class Session implements SessionController {
  readonly #store = new StateStore();
  readonly #texts = new TextTokens();
  #tokenizing: AbortController | null = null;
  readonly #gpu = new Gpu();
  readonly #wakeLock = new WakeLock();
  readonly #roles = new Roles(this.#store, this.#gpu);
  readonly owner = ownerControls(
    (command) => this.#roles.ownership?.command(command),
    () => {
      const { settings, changes } = this.state;
      return settings === null ? null : scheduleOf(settings, changes, Infinity);
    },
    () => this.#roles.visit,
  );

  readonly writing = {
    generate: async (...asked: Parameters<Writer['generate']>) => this.#writer().generate(...asked),
    keep: async (name: string) => this.#writer().keep(name),
    drop: async (id: number) => this.#writer().drop(id),
  };
  readonly files: FileControls = {
    open: async (files) => (await this.#filesDesk()).open(files),
    tokenizerOf: async (files) => (await (await this.#filesDesk()).beginning(files)).tokenizer.serialize(),
    keep: async () => (await this.#filesDesk()).keep(),
    choices: async (room) => (await this.#filesDesk()).choices(room),
    save: async (format, options) => (await this.#filesDesk()).save(format, options),
  };
  #desk: Promise<FilesDesk> | null = null;

  constructor() {
    this.#store.subscribe((state) => {
      document.title = titleOf(state);
      this.#wakeLock.want(state.phase === 'running' && state.role !== 'watcher');
    });
    document.addEventListener('visibilitychange', () => {
      if (document.visibilityState === 'hidden') this.#roles.saveCheckpoint();
    });
    addEventListener('pagehide', () => {
      this.#roles.sayGoodbye();
    });
    addEventListener('pageshow', ({ persisted }: PageTransitionEvent) => {
      // It had said goodbye and was kept by the browser: it comes back as a reloaded one does.
      if (persisted && this.#roles.isInRoom) location.reload();
    });
    void this.#resumeTab();
  }

  get state(): SessionState {
    return this.#store.state;
  }

  subscribe(listener: (state: SessionState) => void): () => void {
    return this.#store.subscribe(listener);
  }

  async estimate(settings: CreateSettings): Promise<RunEstimate> {
    const beginning = await this.#beginning(settings);
    const facts = settings.data === undefined ? await this.#texts.facts(await textOf(settings), choiceOf(settings, beginning)) : factsOfData(settings.data);
    return estimateRun(settings, facts, beginning);
  }

  checkDevice(): Promise<DeviceReport> {
    return this.#roles.checkDevice();
  }

  async create(settings: CreateSettings): Promise<{ link: string }> {
    return this.#roles.guarded(async () => {
      await this.leave();
      this.#store.update({ problem: null });
      const beginning = await this.#beginning(settings);
      const tokenized = await this.#tokenize(settings, beginning);
      const { description, tokens } = composeRun(settings, tokenized, beginning);
      this.#store.update({ phase: 'checking-device' });
      await this.#requireGpu();
      const address = newRoomAddress();
      const { publicKey } = await makeOwner(address.room);
      const { data: prepared } = settings;
      const vocabularySize = description.settings.model.vocab_size;
      const corpus = prepared === undefined ? await piecesOfText(tokens, vocabularySize) : await openCorpus(this.#gpu.storage, prepared.corpus, vocabularySize);
      const data = {
        description: { ...(await withValidationBytes(description, corpus, tokenized.tokenizer)), owner: publicKey },
        corpus,
        ...(beginning !== null && { readWeights: beginning.readWeights }),
      };
      const name = settings.name?.trim() || defaultName;
      await this.#saveRun(address, data, name, prepared?.corpus);
      return this.#roles.leadNew(address, data, name);
    });
  }

  async #tokenize(settings: CreateSettings, beginning: Beginning | null): Promise<TokenizedText> {
    const { data } = settings;
    if (data !== undefined) {
      const tokenizer = await deserializeTokenizer(data.tokenizer);
      if (beginning !== null && beginning.tokenizer.serialize() !== data.tokenizer) {
        throw new SessionError(describeProblem('bad-settings', 'These files were read with another tokenizer than the model’s: choose them again, now that the model is open.'));
      }
      return { kind: tokenizerFacts(data.tokenizer).kind, tokenizer, tokens: new Uint32Array() };
    }
    const text = await textOf(settings);
    const tokenizing = new AbortController();
    this.#tokenizing = tokenizing;
    try {
      return await this.#texts.tokenized(text, choiceOf(settings, beginning), {
        signal: tokenizing.signal,
        progress: (progress) => {
          this.#store.update({ tokenizing: progress });
        },
      });
    } finally {
      this.#store.update({ tokenizing: null });
    }
  }

  cancelTokenizing(): void {
    this.#tokenizing?.abort(new SessionError(describeProblem('cancelled', 'The run was not started.')));
  }

  async continueRun(room: string): Promise<{ link: string }> {
    return this.#roles.guarded(async () => {
      await this.leave();
      this.#store.update({ phase: 'checking-device', problem: null });
      const run = await this.#gpu.storage.loadRun(room);
      if (run === null) throw new SessionError(describeProblem('run-not-found', 'This browser has no saved run of that name any more.'));
      await this.#requireGpu();
      return this.#roles.joinAsMember({ room, key: run.key }, run.name, false);
    });
  }

  async join(link: string, options: { readonly name?: string; readonly watch?: boolean } = {}): Promise<void> {
    await this.#roles.guarded(async () => {
      const address = parseRoomLink(link);
      if (address === null) throw new SessionError(notALink);
      if ('code' in address) throw new SessionError(address);
      await this.leave();
      const name = options.name?.trim() || defaultName;
      await this.#roles.joinAsMember(address, name, options.watch ?? false);
    });
  }

  pause(): void {
    this.#roles.command('pause');
  }

  resume(): void {
    this.#store.update({ problem: null });
    this.#roles.command('resume');
  }

  leave(): Promise<void> {
    return this.#roles.leave();
  }

  rename(name: string): void {
    this.#store.update({ name });
  }

  setSampleTemperature(temperature: number): void {
    this.#store.update({ sampleTemperature: Math.max(0, Math.min(2, temperature)) });
    this.#roles.visit?.sampler?.hurry();
  }

  async savedRuns(): Promise<readonly SavedRun[]> {
    return this.#gpu.storage.list();
  }

  async deleteRun(room: string): Promise<void> {
    await this.#gpu.storage.remove(room);
    await forgetHolder(room);
    await forgetOwner(room);
    // They may be of any room: whichever they are of fetches them again.
    await openPieceCache().clear();
  }

  dismissProblem(): void {
    this.#store.update({ problem: null });
  }

  #writer(): Writer {
    const writer = this.#roles.visit?.writer;
    if (!writer || !this.state.canGenerate) throw new SessionError(describeProblem('no-model', 'This page has no model to write with.'));
    return writer;
  }

  async #beginning({ start }: CreateSettings): Promise<Beginning | null> {
    return start === undefined ? null : (await this.#filesDesk()).beginning(start.files);
  }

  /** Loaded when a file is opened or saved. */
  #filesDesk(): Promise<FilesDesk> {
    this.#desk ??= import('./files-desk.ts').then(
      ({ FilesDesk }) =>
        new FilesDesk({ trainer: () => this.#gpu.trainer, storage: () => this.#gpu.storage, state: () => this.state, run: () => this.#roles.run }),
    );
    return this.#desk;
  }

  async #requireGpu(): Promise<void> {
    const report = await this.checkDevice();
    if (report.problem !== null) throw new SessionError(report.problem);
  }

  /** A reloaded tab goes back to its room, in the role it had. */
  async #resumeTab(): Promise<void> {
    const address = parseRoomLink(location.hash);
    const tab = recalledTab();
    if (address === null || 'code' in address) {
      if (address !== null) this.#store.update({ problem: address });
      return;
    }
    if (tab?.room !== address.room) return;
    const { name } = tab;
    if ('wasDiscarded' in document && document.wasDiscarded === true) {
      this.#store.notice('The browser had put this page away to save memory; it goes back to its room.');
    }
    this.#store.update({ phase: 'finding-room', room: address.room, name });
    await this.#roles.guarded(() => this.#roles.joinAsMember(address, name, tab.role === 'watcher')).catch(() => undefined); // It is in the state.
  }

  /** `stored`: the name under which its corpus is there already. */
  async #saveRun(address: RoomAddress, { description, corpus }: RunData, name: string, stored: string | undefined): Promise<void> {
    void askForPersistence();
    try {
      const { storage } = this.#gpu;
      await storage.saveRun(recordOf(address, description, stored ?? (await keepCorpus(storage, corpus)), name, noRules));
    } catch (error) {
      this.#store.update({ problem: storageProblemOf(error) });
    }
  }
}
