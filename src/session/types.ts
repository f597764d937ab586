/**
 * What a page (or script) sees of a session, and what it can ask of it. The Lit elements draw a `SessionState` and call
 * a `SessionController`; they know nothing else of training or sockets.
 */
import type { CodecChoice } from '../codec/types.ts';
import type { RowLayout } from '../data/batches.ts';
import type { GonePeer, HistoryPoint, PaceRow, PeerRow, SentAsRow } from '../room/messages.ts';
import type { DatedChange } from '../room/rules.ts';
import type { TokenizerChoice } from '../data/tokenizer-choice.ts';
import type { TokenizingProgress } from '../data/tokenize-text.ts';
import type { ConnectionRow } from './connections.ts';
import type { ExportChoice } from '../trainer/exchange/sizes.ts';
import type { ExportFormat } from '../trainer/exchange/types.ts';
import type { Objective } from '../data/chats/objective.ts';
import type { PreviewRow } from '../data/chats/tokenize.ts';
import type { DrawSettings } from '../trainer/drawing.ts';
import type { DeviceReport, KeptWeights, Problem } from '../trainer/types.ts';
import type { Precision } from '../model/decoder.ts';
import type { Frozen } from '../model/frozen.ts';
import type { DecoderConfig } from '../model/types.ts';
import type { OptimizerSettings } from '../optim/types.ts';

export type PresetId = 'repeated-pattern' | 'tiny-rhyme' | 'counting-list' | 'moby-dick' | 'own-text';

/** The run file (DESIGN §5) with everything filled in. */
export interface RunSettings {
  readonly model: DecoderConfig;
  readonly steps: number;
  readonly rowsPerStep: number;
  readonly rowsPerMicrobatch: number;
  readonly contextLength: number;
  readonly order: 'shuffled' | 'sequential';
  readonly seed: number;
  readonly codec: CodecChoice;
  /** Steps of each device alone in one of the room's, which is as many times `rowsPerStep`; 1: none. */
  readonly localSteps: number;
  readonly precision: Precision;
  /** Neither attention nor loss crosses from one document of the data to the next. */
  readonly keepDocumentsApart: boolean;
  /** How documents make rows (`data/batches.ts`). */
  readonly rowLayout: RowLayout;
  readonly evalEvery: number;
  /** Evaluations in a row without a lower validation loss after which the run pauses; 0: however many. */
  readonly patience: number;
  readonly optimizer: OptimizerSettings;
  /** What is scored of conversations and texts. */
  readonly objective: Objective;
  /** Of training; validation is without it. */
  readonly labelSmoothing: number;
  readonly frozen: Frozen;
}

/** Files that were read, tokenized and stored in this browser: enough to make a run of them. */
export interface PreparedData {
  /** Its name in this browser's storage. */
  readonly corpus: string;
  /** What it is, in a few words. */
  readonly title: string;
  /** By which it was read, serialized. */
  readonly tokenizer: string;
  /** What is scored of it; everything, where it holds no conversations. */
  readonly objective: Objective;
  /** The first few conversations as they will be learned; none of texts. */
  readonly preview: readonly PreviewRow[];
  /** How the text begins: what samples start from. */
  readonly opening: string;
  readonly documents: number;
  readonly tokens: number;
  /** Of the files, as they were read. */
  readonly bytes: number;
  readonly hasWeights: boolean;
}

/** What `create` takes: a preset and any run-file key to override; `model` may be given in part. */
export interface CreateSettings {
  readonly preset: PresetId;
  /** For `own-text`: typed or pasted. */
  readonly text?: string;
  /** Made of the text; by character when left out. */
  readonly tokenizer?: TokenizerChoice;
  /** For `own-text`: what files came to, instead. */
  readonly data?: PreparedData;
  readonly title?: string;
  readonly name?: string;
  readonly model?: Partial<DecoderConfig>;
  readonly steps?: number;
  readonly rowsPerStep?: number;
  readonly rowsPerMicrobatch?: number;
  readonly contextLength?: number;
  readonly order?: 'shuffled' | 'sequential';
  readonly seed?: number;
  readonly codec?: CodecChoice;
  /** Where steps, warm-up and evaluations are not given, the preset's are as many times fewer. */
  readonly localSteps?: number;
  readonly precision?: Precision;
  /** Where it is not given: if there are several documents. */
  readonly keepDocumentsApart?: boolean;
  /** Where it is not given: `packed` for documents with loss weights, else `text`. */
  readonly rowLayout?: RowLayout;
  readonly evalEvery?: number;
  readonly patience?: number;
  readonly optimizer?: Partial<OptimizerSettings>;
  readonly objective?: Objective;
  readonly labelSmoothing?: number;
  readonly frozen?: Frozen;
  /** Weights and tokenizer to begin with, of a Hugging Face folder, its zip, a GGUF or a run file; default: fresh ones. `model` is then the files'. */
  readonly start?: { readonly kind: 'files'; readonly files: readonly File[] };
}

/** What files that a person gave are. */
export interface GivenFiles {
  readonly kind: 'hugging-face' | 'gguf' | 'run';
  readonly name: string;
  readonly model: DecoderConfig;
  readonly parameterCount: number;
  /** Of a run file; `isWhole`: it can go on here. */
  readonly run: { readonly title: string; readonly step: number; readonly steps: number; readonly isWhole: boolean } | null;
}

export interface SaveOptions {
  /** A saved run's; null: the room that this page is in. */
  readonly room: string | null;
  /** Null: into a Blob. */
  readonly target: FileSystemFileHandle | null;
  readonly onProgress: (bytes: number) => void;
  readonly signal: AbortSignal;
}

/** Models and runs as files. All reject with an error that carries a `problem`. */
export interface FileControls {
  open(files: readonly File[]): Promise<GivenFiles>;
  /** The tokenizer of a model that these are, serialized: what is to be learned by it has to be read by it. */
  tokenizerOf(files: readonly File[]): Promise<string>;
  /** Puts the whole run that is open among the saved ones; returns its room. */
  keep(): Promise<string>;
  choices(room: string | null): Promise<readonly ExportChoice[]>;
  /** Null when it was written to the target. */
  save(format: ExportFormat, options: SaveOptions): Promise<Blob | null>;
}

/** What the landing page shows while settings change; computed from a preset's text and settings, without training. */
export interface RunEstimate {
  readonly settings: RunSettings;
  /** A token is a character. */
  readonly isByCharacter: boolean;
  /** The most it can be while `tokens` is null. */
  readonly vocabularySize: number;
  readonly characters: number;
  /** Null while the tokenizer is not trained, which is done when the run starts. */
  readonly tokens: number | null;
  readonly parameterCount: number;
  /** Weights, moments, gradients and activations on this device. */
  readonly memoryBytes: number;
  readonly expectedInitialLoss: number;
  readonly tokensPerStep: number;
  /** Why these settings can't run (text too short for the context, heads that don't divide …). */
  readonly problem: Problem | null;
}

/** What the owner can change of a run under way; `learningRate` is the peak of the run's schedule. */
export interface ScheduleSettings {
  readonly learningRate: number;
  readonly minLearningRate: number;
  readonly steps: number;
}

export type SessionPhase =
  | 'idle'
  | 'checking-device'
  | 'preparing'
  | 'finding-room'
  | 'connecting'
  | 'fetching-replica'
  | 'running'
  | 'paused'
  | 'finished'
  | 'reconnecting'
  | 'stopped'
  | 'left';

export interface Sample {
  readonly step: number;
  readonly prompt: string;
  readonly text: string;
  readonly temperature: number;
  /** False when it came from the coordinator because this device has no replica to sample from. */
  readonly own: boolean;
}

/** One turn of a conversation. */
export interface ChatMessage {
  readonly role: 'system' | 'user' | 'assistant';
  readonly content: string;
}

/** How the model shall write; what is left out is as in `DrawSettings`, the temperature 0.8. */
export interface GenerateOptions extends Partial<DrawSettings> {
  /** Default 200. */
  readonly maxNewTokens?: number;
  /** The same prompt, settings, seed and weights give the same text. Default: another one each time. */
  readonly seed?: number;
  /** The text ends before the first of them. */
  readonly stop?: readonly string[];
  /** `KeptModel.id`. Default: the run's weights, as they are at each token. */
  readonly weights?: number;
  /** Ends the text; what there is of it is the answer. */
  readonly signal?: AbortSignal;
  /** Called with the text so far as it grows. */
  readonly onText?: (text: string) => void;
}

export interface Generated {
  readonly text: string;
  /** `stop`: a stop string or a token that ends texts. */
  readonly end: 'length' | 'stop' | 'stopped';
  readonly tokens: number;
  readonly tokensPerSecond: number;
  /** Updates that the weights had had at the first token and at the last. */
  readonly fromStep: number;
  readonly toStep: number;
}

/** Weights that a person kept to compare with. */
export interface KeptModel extends KeptWeights {
  readonly name: string;
}

/** What a person can do with the model while it is trained, and after. */
export interface WritingControls {
  /** Continues a text, or answers a conversation where `hasChat`. Rejects with an error that has a `problem`. */
  generate(prompt: string | readonly ChatMessage[], options?: GenerateOptions): Promise<Generated>;
  /** Keeps the weights as they are now, on this device alone and until the room is left. */
  keep(name: string): Promise<KeptModel>;
  drop(id: number): Promise<void>;
}

export interface SavedRun {
  readonly room: string;
  readonly title: string;
  readonly savedAtMs: number;
  readonly bytes: number;
  readonly step: number;
  readonly steps: number;
  readonly loss: number | null;
}

export interface SessionState {
  readonly phase: SessionPhase;
  readonly role: 'none' | 'coordinator' | 'member' | 'watcher';
  readonly room: string | null;
  readonly title: string;
  /** This browser made the room: it may give orders (`SessionController.owner`). */
  readonly isOwner: boolean;
  /** The room's link at this page's own address. */
  readonly link: string | null;
  /** The link to hand out: at the server's LAN address where this page is open on `localhost`. */
  readonly inviteLink: string | null;
  readonly selfId: string | null;
  readonly name: string;
  readonly term: number;
  /** Updates applied so far. */
  readonly step: number;
  readonly steps: number;
  readonly loss: number | null;
  readonly validationLoss: number | null;
  /** Of the validation loss; null where the run doesn't say how long its tokens are. */
  readonly bitsPerByte: number | null;
  /** UTF-8 bytes that a scored token of the validation rows stands for; null where the run doesn't say. */
  readonly validationBytesPerToken: number | null;
  readonly tokensPerSecond: number;
  readonly ownTokensPerSecond: number;
  readonly elapsedMs: number;
  readonly remainingMs: number | null;
  readonly peers: readonly PeerRow[];
  /** Whose connection to the coordinator ended a moment ago, and how. */
  readonly gone: readonly GonePeer[];
  /** Where the time of a step goes; null until the first one is done. */
  readonly pace: PaceRow | null;
  /** What the room has chosen; null where it can't, or nothing is known. */
  readonly sentAs: SentAsRow | null;
  /** Of the peers that this page is connected to: all others where it leads, else the coordinator. */
  readonly connections: readonly ConnectionRow[];
  /** A new array whenever a point was added; points are never mutated. */
  readonly history: readonly HistoryPoint[];
  readonly replicaHash: string | null;
  /** As the run began. */
  readonly settings: RunSettings | null;
  /** A token of the run is a character; else a piece of a word. */
  readonly isByCharacter: boolean;
  /** How far the text of a run that is about to start is tokenized; null when there is nothing to wait for. */
  readonly tokenizing: TokenizingProgress | null;
  /** What the owner has changed since, in the order of their steps. */
  readonly changes: readonly DatedChange[];
  readonly parameterCount: number | null;
  readonly expectedInitialLoss: number | null;
  readonly device: DeviceReport | null;
  readonly sample: Sample | null;
  readonly sampleTemperature: number;
  /** This device has weights to write with. */
  readonly canGenerate: boolean;
  /** The run has a template for conversations. */
  readonly hasChat: boolean;
  readonly kept: readonly KeptModel[];
  readonly lastCheckpoint: { readonly step: number; readonly savedAtMs: number } | null;
  /** Signalling server reachable: joins and hand-offs need it, training doesn't. */
  readonly signalling: 'online' | 'offline' | 'unused';
  /** What stands in the way now, or null. */
  readonly problem: Problem | null;
  /** Plain sentences about what just happened ("Ada joined"), newest last. */
  readonly notices: readonly { readonly atMs: number; readonly text: string }[];
}

/** What only the owner of a room can do. Each resolves when it is done, and rejects with an error that says why it isn't. */
export interface OwnerControls {
  /** Gives the room another name. */
  rename(title: string): Promise<void>;
  /** Other values from the next step on that is not begun; what is left out stays as it is. */
  reschedule(values: Partial<ScheduleSettings>): Promise<void>;
  /** Lets a peer lead as soon as it has all that this takes; whoever led goes on as a member. */
  handOver(peer: string): Promise<void>;
  /** Sends a peer away; its browser is not let in again. */
  remove(peer: string): Promise<void>;
  /** Gives the room another key: who is in it is told, and the old link lets nobody in any more. */
  renewKey(): Promise<{ link: string }>;
  /** Ends the room for everybody; who has saved the run keeps it, and only the owner opens the room again. */
  close(): Promise<void>;
}

export interface SessionController {
  readonly owner: OwnerControls;
  readonly writing: WritingControls;
  readonly files: FileControls;
  readonly state: SessionState;
  /** Calls back on every change, at most once per task. Returns the unsubscriber. */
  subscribe(listener: (state: SessionState) => void): () => void;
  estimate(settings: CreateSettings): Promise<RunEstimate>;
  create(settings: CreateSettings): Promise<{ link: string }>;
  join(link: string, options?: { readonly name?: string; readonly watch?: boolean }): Promise<void>;
  /** Opens the GPU, checks it and reports; what the join page shows. */
  checkDevice(): Promise<DeviceReport>;
  pause(): void;
  resume(): void;
  /** Hands unfinished work back, saves, and says goodbye. */
  leave(): Promise<void>;
  rename(name: string): void;
  setSampleTemperature(temperature: number): void;
  savedRuns(): Promise<readonly SavedRun[]>;
  continueRun(room: string): Promise<{ link: string }>;
  deleteRun(room: string): Promise<void>;
  /** Ends what `tokenizing` tells of: the run is not started. */
  cancelTokenizing(): void;
  /** Forgets the problem shown, where going on is possible. */
  dismissProblem(): void;
}
