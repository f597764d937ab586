/**
 * What the files' worker does for the page: opens what a person gave and reads it, and writes models into files, so that neither
 * holds up the page or the training. It has one thing open at a time. Who asks, and what becomes of it, is the session's.
 */
import { transfer } from 'comlink';
import { zipStream } from '../../checkpoint/archive.ts';
import { ModelFileError, blobSource } from '../../checkpoint/bytes.ts';
import { openCheckpointStore } from '../../checkpoint/store.ts';
import type { MasterState, RunRecord } from '../../checkpoint/types.ts';
import type { TokenizerFiles } from '../../data/tokenizer-files.ts';
import { parameterCount } from '../../model/parameters.ts';
import type { DecoderConfig } from '../../model/types.ts';
import { ggufOutput } from './gguf-model.ts';
import { huggingFaceOutputs } from './hugging-face-model.ts';
import { openModel } from './model-source.ts';
import type { OpenedModel } from './model-source.ts';
import { runFileOutput } from './run-file.ts';
import { piecesOfText } from '../../data/token-pieces.ts';
import { keepCorpus } from '../keep-corpus.ts';
import type { RunFacts, SavedFacts } from './run-file.ts';
import type { ExportFormat } from './types.ts';

/** A file and its place among those that were dropped. */
export interface GivenFile {
  readonly path: string;
  readonly blob: Blob;
}

export interface GivenModel {
  readonly kind: OpenedModel['kind'];
  readonly name: string;
  readonly config: DecoderConfig;
  readonly parameterCount: number;
  readonly tokenizer: TokenizerFiles | null;
  readonly hasWeights: boolean;
  /** Of a run file. `isWhole`: it has the optimizer and the corpus too, so that the run can go on. */
  readonly run: { readonly facts: RunFacts; readonly checkpoint: SavedFacts; readonly isWhole: boolean } | null;
}

export interface ExportRequest {
  readonly format: ExportFormat;
  readonly name: string;
  readonly config: DecoderConfig;
  readonly tokenizer: TokenizerFiles;
  /** What is on the GPU, or the newest checkpoint of a saved run. */
  readonly state: (Pick<MasterState, 'weights'> & Partial<MasterState>) | { readonly room: string };
  /** Of a run file. */
  readonly facts: RunFacts | null;
  readonly checkpoint: SavedFacts | null;
  readonly corpus: Uint32Array | null;
  /** Where to; null: into a Blob. */
  readonly target: FileSystemFileHandle | null;
}

export interface FilesApi {
  /** Throws `ModelFileError`. */
  open(files: readonly GivenFile[]): Promise<GivenModel>;
  /** Of what is open, by the parameter layout. `onProgress`: the share that is read. */
  readWeights(onProgress: (share: number) => void): Promise<ArrayBuffer>;
  /** Puts the whole run that is open among those that this browser keeps, under this address. */
  keepRun(record: Omit<RunRecord, 'corpus'>): Promise<void>;
  /** Null when it was written to the request's target. */
  write(request: ExportRequest, onProgress: (bytes: number) => void): Promise<Blob | null>;
}

export function filesApi(openStore: typeof openCheckpointStore = openCheckpointStore): FilesApi {
  let opened: OpenedModel | null = null;
  const current = (): OpenedModel => {
    if (opened === null) throw new ModelFileError('no file is open');
    return opened;
  };
  return {
    async open(files) {
      opened = null;
      const model = await openModel(new Map(files.map(({ path, blob }) => [path, blobSource(path, blob)])));
      opened = model;
      const { kind, name, config, tokenizer, readWeights, run } = model;
      const isRun = run?.facts != null && run.checkpoint !== null;
      return {
        kind,
        name,
        config,
        parameterCount: parameterCount(config),
        tokenizer,
        hasWeights: readWeights !== null,
        run: isRun && run.facts !== null && run.checkpoint !== null ? { facts: run.facts, checkpoint: run.checkpoint, isWhole: run.readState !== null && run.readCorpus !== null } : null,
      };
    },
    async readWeights(onProgress) {
      const { readWeights, name, config } = current();
      if (readWeights === null) throw new ModelFileError(`${name} has a configuration and no weights`);
      const total = parameterCount(config);
      const { buffer } = await readWeights({ onProgress: (elements) => onProgress(elements / total) });
      return transfer(buffer, [buffer]);
    },
    async keepRun(record) {
      const { run, name, config } = current();
      if (run?.checkpoint == null || run.readState === null || run.readCorpus === null) throw new ModelFileError(`${name} is not a whole run`);
      const store = await openStore();
      try {
        const corpus = await keepCorpus(store, await piecesOfText(await run.readCorpus(), config.vocab_size));
        await store.saveRun({ ...record, corpus });
        await store.saveCheckpoint({ ...run.checkpoint, room: record.room, state: await run.readState() });
      } finally {
        store.close();
      }
    },
    async write(request, onProgress) {
      const chunks = await chunksOf(request, openStore);
      let bytes = 0;
      const counted = async function* counted(): AsyncGenerator<Uint8Array<ArrayBuffer>> {
        for await (const chunk of chunks) {
          bytes += chunk.length;
          yield new Uint8Array(chunk);
          onProgress(bytes);
        }
      };
      if (request.target === null) {
        const parts: Uint8Array<ArrayBuffer>[] = [];
        for await (const chunk of counted()) parts.push(chunk);
        return new Blob(parts, { type: 'application/octet-stream' });
      }
      const writable = await request.target.createWritable();
      try {
        for await (const chunk of counted()) await writable.write(chunk);
        await writable.close();
        return null;
      } catch (error) {
        await writable.abort();
        throw error;
      }
    },
  };
}

async function chunksOf(request: ExportRequest, openStore: typeof openCheckpointStore): Promise<Iterable<Uint8Array> | AsyncIterable<Uint8Array>> {
  const { name, config, tokenizer, format, facts, corpus } = request;
  const { state, checkpoint } = 'room' in request.state ? await savedState(request.state.room, openStore) : { state: request.state, checkpoint: request.checkpoint };
  const parts = { name, config, tokenizer, weights: new Float32Array(state.weights) };
  switch (format.kind) {
    case 'hf':
      return zipStream(huggingFaceOutputs(parts, format.type));
    case 'gguf':
      return ggufOutput(parts, format.type, name).chunks();
    case 'run': {
      const { weights: _, step: __, ...optimizer } = state;
      return runFileOutput({ ...parts, facts, checkpoint, optimizer, corpus }, name).chunks();
    }
  }
}

async function savedState(room: string, openStore: typeof openCheckpointStore): Promise<{ readonly state: MasterState; readonly checkpoint: SavedFacts }> {
  const store = await openStore();
  try {
    const loaded = await store.loadCheckpoint(room);
    if (loaded === null) throw new ModelFileError('this browser has saved nothing of the run’s weights');
    const { state, room: _, ...checkpoint } = loaded.checkpoint;
    return { state, checkpoint };
  } finally {
    store.close();
  }
}
