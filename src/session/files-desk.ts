/**
 * Models and runs as files, for the page: what a person gave is opened, begun from or kept; what the room or this browser has is
 * saved. The work is done in the files' worker; this module is loaded when a file is first opened or saved.
 */
import * as v from 'valibot';
import type { RunRecord } from '../checkpoint/types.ts';
import { documentCount } from '../data/corpus.ts';
import { TokenizerError } from '../data/errors.ts';
import { deserializeTokenizer, tokenizerFromHuggingFace } from '../data/serialized-tokenizer.ts';
import type { Tokenizer } from '../data/tokenizer.ts';
import type { TokenizerFiles } from '../data/tokenizer-files.ts';
import { parameterLayoutOf } from '../model/parameters.ts';
import { historyPointSchema } from '../room/messages.ts';
import { noRules } from '../room/rules.ts';
import { carriedProblem } from '../trainer/errors.ts';
import { startFilesWorker } from '../trainer/exchange/client.ts';
import type { FilesWorker } from '../trainer/exchange/client.ts';
import type { ExportRequest, GivenModel } from '../trainer/exchange/files-api.ts';
import { exportChoices } from '../trainer/exchange/sizes.ts';
import type { ExportChoice } from '../trainer/exchange/sizes.ts';
import type { ExportFormat } from '../trainer/exchange/types.ts';
import { masterPartsOf } from '../trainer/types.ts';
import type { Trainer } from '../trainer/types.ts';
import type { RunStorage } from '../trainer/worker-api.ts';
import { newRoomAddress } from './link.ts';
import { makeOwner } from './owner.ts';
import { problem } from './problems.ts';
import { openCorpus } from './corpora.ts';
import { parseRules } from './rules.ts';
import { RunError, parseRun, serializeRun, trainerSettings } from './run.ts';
import type { Beginning, RunDescription } from './run.ts';
import type { GivenFiles, SaveOptions, SessionState } from './types.ts';

export interface FilesDeskOptions {
  readonly trainer: () => Trainer;
  readonly storage: () => RunStorage;
  readonly state: () => SessionState;
  /** Of the room that this page is in. */
  readonly run: () => RunDescription | null;
  readonly startWorker?: () => FilesWorker;
}

export class FilesDesk {
  readonly #options: FilesDeskOptions;
  #worker: FilesWorker | null = null;
  #opened: GivenModel | null = null;
  #openedFiles: readonly File[] | null = null;

  constructor(options: FilesDeskOptions) {
    this.#options = options;
  }

  /** What the files are. They stay open until others are opened. Throws `RunError`. */
  async open(files: readonly File[]): Promise<GivenFiles> {
    this.#forget();
    const given = files.map((file) => ({ path: file.webkitRelativePath === '' ? file.name : file.webkitRelativePath, blob: file }));
    const opened = await explained(this.#started().open(given));
    this.#opened = opened;
    this.#openedFiles = files;
    const { kind, name, parameterCount, run } = opened;
    return { kind, name, model: opened.config, parameterCount, run: run === null ? null : { title: run.facts.title, step: run.checkpoint.step, steps: run.facts.steps, isWhole: run.isWhole } };
  }

  /** What a run begins with whose settings name these files. Throws `RunError` where it can't. */
  async beginning(files: readonly File[]): Promise<Beginning> {
    // Figures are asked for at every change of a setting, of the same files.
    if (this.#openedFiles !== files) await this.open(files);
    const opened = this.#current();
    const { config, tokenizer, hasWeights, name } = opened;
    if (!hasWeights) throw badFile(`${name} has a configuration and no weights`);
    return { config, tokenizer: await explained(tokenizerOf(tokenizer, name)), readWeights: () => explained(this.#started().readWeights(() => undefined)) };
  }

  /** The whole run that is open goes among the saved ones, as this browser's own. Returns its room. */
  async keep(): Promise<string> {
    const { run, name } = this.#current();
    if (run === null) throw badFile(`${name} is a model, and no run: start one from it`);
    if (!run.isWhole) throw badFile(`${name} has no optimizer state or no text: a run can start from it, but not go on with it`);
    const { facts, checkpoint } = run;
    const description = parseRun(facts.run);
    if (!v.is(v.pipe(v.string(), v.parseJson(), v.array(historyPointSchema)), checkpoint.history)) throw badFile(`${name}: its curve is damaged`);
    const address = newRoomAddress();
    const { publicKey } = await makeOwner(address.room);
    // Keys, members and orders were the other room's; what was changed of the schedule is the run's.
    const rules = { ...noRules, changes: parseRules(facts.rules).changes };
    await explained(
      this.#started().keepRun({ ...facts, ...address, run: serializeRun({ ...description, owner: publicKey }), createdAtMs: Date.now(), rules: JSON.stringify(rules) }),
    );
    return address.room;
  }

  /** What the room's model (`room`: null), or that of a saved run, can be saved as. */
  async choices(room: string | null): Promise<readonly ExportChoice[]> {
    const { description, record } = await this.#source(room);
    // Who is a member has the weights alone.
    const parts = room === null && this.#options.state().role !== 'coordinator' ? 0 : masterPartsOf(trainerSettings(description)).length;
    return exportChoices(description.settings.model, parts, (await this.#textOf(record, description))?.length ?? 0);
  }

  /** Into the file that a person chose, or a Blob to be downloaded. Throws `RunError`; what `signal` ends leaves nothing behind. */
  async save(format: ExportFormat, { room, target, onProgress, signal }: SaveOptions): Promise<Blob | null> {
    const { description, record } = await this.#source(room);
    const { title, settings } = description;
    const config = settings.model;
    const request: ExportRequest = {
      format,
      name: title,
      config,
      tokenizer: (await deserializeTokenizer(description.tokenizer)).toHuggingFace(config.max_position_embeddings),
      facts: record ?? { title, run: serializeRun(description), steps: settings.steps, createdAtMs: Date.now(), name: this.#options.state().name },
      corpus: format.kind === 'run' ? await this.#textOf(record, description) : null,
      ...(room === null ? await this.#live(format, description) : { state: { room }, checkpoint: null }),
      target,
    };
    const worker = this.#started();
    const stop = (): void => {
      this.#worker = null;
      this.#forget();
      worker.terminate(new RunError(problem('left', 'Saving was cancelled; nothing was written.')));
    };
    signal.addEventListener('abort', stop);
    try {
      signal.throwIfAborted();
      return await explained(worker.write(request, onProgress));
    } finally {
      signal.removeEventListener('abort', stop);
    }
  }

  async #source(room: string | null): Promise<{ readonly description: RunDescription; readonly record: RunRecord | null }> {
    const here = room ?? this.#options.state().room;
    // In a room nothing depends on storage: what is on the GPU can be saved where storage is forbidden too.
    const record = here === null ? null : await this.#options.storage().loadRun(here).catch(() => null);
    const description = room === null ? this.#options.run() : record && parseRun(record.run);
    if (description === null) throw new RunError(problem('run-not-found', 'This browser has no saved run of that name any more.'));
    return { description, record };
  }

  /** The tokens of a run's text, for a run file, which has no place for documents: null for a corpus of several, or with weights. */
  async #textOf(record: RunRecord | null, { settings }: RunDescription): Promise<Uint32Array | null> {
    if (record === null) return null;
    if (typeof record.corpus !== 'string') return record.corpus;
    const { index, read } = await openCorpus(this.#options.storage(), record.corpus, settings.model.vocab_size);
    if (documentCount(index) > 1 || index.weightSums !== null) return null;
    return (await read(0, index.tokenCount)).ids;
  }

  /** What is on the GPU now: weights, and for a run file of whoever leads the optimizer's state. */
  async #live(format: ExportFormat, { settings }: RunDescription): Promise<Pick<ExportRequest, 'state' | 'checkpoint'>> {
    const trainer = this.#options.trainer();
    const { role, term, history, loss } = this.#options.state();
    if (format.kind !== 'run' || role !== 'coordinator') {
      const { bytes } = await trainer.replica();
      // Padding is a part of it: what is not as long is no replica of this model.
      if (bytes.byteLength !== parameterLayoutOf(settings.model).totalElements * Float32Array.BYTES_PER_ELEMENT) throw badFile('the weights on this device are another model’s');
      return { state: { weights: bytes }, checkpoint: null };
    }
    const state = await trainer.masterState();
    const points = history.filter(({ step }) => step < state.step);
    const now = Date.now();
    return { state, checkpoint: { term, step: state.step, savedAtMs: now, startedAtMs: now - this.#options.state().elapsedMs, loss, history: JSON.stringify(points) } };
  }

  #forget(): void {
    this.#opened = null;
    this.#openedFiles = null;
  }

  #current(): GivenModel {
    if (this.#opened === null) throw badFile('no file is open');
    return this.#opened;
  }

  #started(): FilesWorker {
    this.#worker ??= (this.#options.startWorker ?? startFilesWorker)();
    return this.#worker;
  }
}

function badFile(what: string): RunError {
  return new RunError(problem('bad-file', `${what}.`));
}

/** Errors of files know no advice. */
async function explained<T>(work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    throw carriedProblem(error) === null ? badFile(error instanceof Error ? error.message : String(error)) : error;
  }
}

async function tokenizerOf(files: TokenizerFiles | null, name: string): Promise<Tokenizer> {
  if (files === null) throw new TokenizerError(`${name} has no tokenizer.json: nobody knows what its tokens mean`);
  return tokenizerFromHuggingFace(files.tokenizer, files.config);
}
