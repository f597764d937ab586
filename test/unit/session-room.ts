/**
 * A room of the session's real drivers in one process: links over channels in memory, trainers on the CPU, checkpoints in an
 * IndexedDB in memory, and a clock that tests move. What a page adds (signalling, locks, the GPU) is not here.
 */
import { IDBFactory } from 'fake-indexeddb';
import { byCharacter } from '../../src/data/tokenized-text.ts';
import { openBestWeights } from '../../src/checkpoint/best-weights.ts';
import { openCheckpointStore } from '../../src/checkpoint/store.ts';
import type { PieceCache } from '../../src/checkpoint/piece-cache.ts';
import { weightOf } from '../../src/data/batches.ts';
import type { PeerDevice, HistoryPoint, PeerId, Step, Term } from '../../src/room/messages.ts';
import { noRules } from '../../src/room/rules.ts';
import { LeadDriver } from '../../src/session/lead-driver.ts';
import { encodeCorpus } from '../../src/session/inheritance.ts';
import { piecesOfText } from '../../src/data/token-pieces.ts';
import { MemberDriver } from '../../src/session/member-driver.ts';
import { batchesOf, composeRun, serializeRun, trainerSettings } from '../../src/session/run.ts';
import type { CreateSettings } from '../../src/session/types.ts';
import { storageOf } from '../../src/trainer/worker-api.ts';
import type { Problem, Trainer, TrainerSettings } from '../../src/trainer/types.ts';
import type { Connection, Endpoint } from '../../src/transport/types.ts';
import { holderOf } from '../room/bench.ts';
import { CpuTrainer } from '../room/cpu-trainer.ts';
import type { GradientMemo } from '../room/cpu-trainer.ts';
import { identity, makeWires, openAll, side } from './transport-memory.ts';
import type { Wires } from './transport-memory.ts';

const roomKey = 'the key of this room';
const leadId = 'ada' as PeerId;
const term = 1 as Term;
/** Longest pause between two events of such a room; its steps take milliseconds. */
const stuckAfterMs = 10_000;
const device: PeerDevice = { name: 'CPU', isSoftware: true, probeTokensPerSecond: 100, problem: null };

const tiny: CreateSettings = {
  preset: 'own-text',
  contextLength: 8,
  rowsPerStep: 2,
  rowsPerMicrobatch: 1,
  model: { hidden_size: 8, intermediate_size: 16, num_hidden_layers: 1, num_attention_heads: 2, num_key_value_heads: 1, head_dim: 4 },
};
const text = 'abcdefgh'.repeat(20);

/** The simulator's CPU trainer as a session's: planned by `prepare`, and never asked about its device. */
function cpuTrainer(memo: GradientMemo): Trainer {
  let planned: CpuTrainer | null = null;
  const trainer = (): CpuTrainer => {
    if (planned === null) throw new RangeError('the trainer is not prepared');
    return planned;
  };
  const notHere = (): Promise<never> => Promise.reject(new Error('this trainer is on the CPU'));
  return {
    check: notHere,
    async prepare(settings: TrainerSettings) {
      planned = new CpuTrainer(settings, memo);
      return { parameterCount: 0, flatElements: 0, gpuBytes: 0, dispatchesPerMicrobatch: 0, precision: 'f32' };
    },
    initialize: () => trainer().initialize(),
    restore: (state) => trainer().restore(state),
    loadReplica: (step, bytes) => trainer().loadReplica(step, bytes),
    applyUpdate: (step, bytes, followed) => trainer().applyUpdate(step, bytes, followed),
    beginFollowing: () => trainer().beginFollowing(),
    readMaster: (part, offsetBytes, byteLength) => trainer().readMaster(part, offsetBytes, byteLength),
    writeMaster: (step, part, offsetBytes, bytes) => trainer().writeMaster(step, part, offsetBytes, bytes),
    computeGradients: (job) => trainer().computeGradients(job),
    explainNonFinite: notHere,
    kernelTimes: notHere,
    compareKernels: notHere,
    cancel: () => undefined,
    takeContribution: (assignment, codec) => trainer().takeContribution(assignment, codec),
    beginStep: (step) => trainer().beginStep(step),
    addOwnContribution: (assignment) => trainer().addOwnContribution(assignment),
    addContribution: (step, bytes) => trainer().addContribution(step, bytes),
    commit: (step, weightSum, options) => trainer().commit(step, weightSum, options),
    replica: () => trainer().replica(),
    masterState: () => trainer().masterState(),
    namedGradients: notHere,
    evaluate: (rows) => trainer().evaluate(rows),
    sample: notHere,
    stopSample: () => undefined,
    keepWeights: notHere,
    dropWeights: notHere,
    whenLost: () => new Promise<Problem>(() => undefined),
    dispose: async () => undefined,
  };
}

export interface RoomOptions extends Pick<CreateSettings, 'steps' | 'evalEvery' | 'model'> {
  /** Of the steps before: the run goes on after them. */
  readonly history?: readonly HistoryPoint[];
  readonly relaysFrom?: number;
  /** Public key of the owner. */
  readonly owner?: string | null;
  /** Stands between the coordinator and its trainer. */
  readonly trainer?: (trainer: Trainer) => Trainer;
}

export interface Guest {
  readonly driver: MemberDriver;
  /** Of its newest connection to the coordinator. */
  wires: Wires;
  /** Connections to other guests. */
  sources: number;
  readonly problems: (Problem | null)[];
  readonly notices: string[];
  /** Why its orders were not carried out. */
  readonly declined: string[];
}

export class DriverRoom {
  readonly lead: LeadDriver;
  readonly notices: string[] = [];
  readonly problems: (Problem | null)[] = [];
  readonly #guests: Guest[] = [];
  readonly #memo: GradientMemo;
  #nowMs = 1000;
  #waiting: (() => void)[] = [];

  /** A paused room, led by Ada. */
  static async open({ history = [], owner = null, relaysFrom, trainer: wrap = (trainer) => trainer, ...settings }: RoomOptions): Promise<DriverRoom> {
    const { description, tokens } = composeRun({ ...tiny, ...settings }, byCharacter(text));
    const source = batchesOf(description, tokens);
    const corpus = await piecesOfText(tokens, description.settings.model.vocab_size);
    const memo: GradientMemo = new Map();
    const trainer = wrap(cpuTrainer(memo));
    await trainer.prepare(trainerSettings(description));
    await trainer.initialize();
    const startHash = await trainer.restore({ ...(await trainer.masterState()), step: history.length });
    return new DriverRoom(memo, (room) => ({
      room: 'room',
      owner,
      trainer,
      storage: storageOf(trainer, () => openCheckpointStore({ indexedDb: new IDBFactory() }), { ...openBestWeights(), save: async () => undefined }),
      source,
      corpus: () => encodeCorpus(corpus),
      lease: { name: () => undefined },
      master: { parts: ['firstMoments', 'secondMoments'], bytes: 0 },
      maxBlobBytes: 2 ** 24,
      nowMs: () => room.nowMs(),
      changed: () => {
        room.#changed();
      },
      problem: (problem) => {
        room.problems.push(problem);
        room.#changed();
      },
      notice: (notice) => {
        room.notices.push(notice);
        room.#changed();
      },
      checkpointSaved: () => undefined,
      declined: () => undefined,
      handOver: () => undefined,
      closeRoom: () => undefined,
      config: {
        self: leadId,
        holderHash: holderOf(leadId),
        name: 'Ada',
        term,
        run: serializeRun(description),
        steps: description.settings.steps,
        microbatchesPerStep: source.microbatchesPerStep,
        codecs: [],
        sentAs: null,
        hasLocalSteps: false,
        tokensPerMicrobatch: description.settings.rowsPerMicrobatch * description.settings.contextLength,
        weightOfMicrobatch: (step, microbatch) => weightOf(source.draw(step, microbatch)),
        selfDevice: device,
        sharesReplica: true,
        relaysFrom: relaysFrom ?? null,
        evalEvery: description.settings.evalEvery,
        validationWeights: source.validation.map(weightOf),
        patience: 0,
        checkpointEveryMs: 0,
        checkpointEverySteps: 0,
        startStep: history.length as Step,
        startHash,
        history,
        rules: noRules,
        startedAtMs: 0,
        startPaused: true,
        hasHeirs: false,
        leaseUntilMs: 0,
      },
    }));
  }

  private constructor(memo: GradientMemo, options: (room: DriverRoom) => ConstructorParameters<typeof LeadDriver>[0]) {
    this.#memo = memo;
    this.lead = new LeadDriver(options(this));
  }

  /** Moves on by a little with every look, as clocks do. */
  nowMs(): number {
    this.#nowMs += 0.01;
    return this.#nowMs;
  }

  /**
   * `wires`: tampers with each new connection before it opens, to the coordinator (null) or another guest. Index 0 of a pair is
   * the caller's end. `pieces`: what this browser has fetched before. `leadAt`: where the
   * coordinator is reached, when signalling has given it another id since it began to lead.
   */
  join(name: string, options: { readonly watch?: boolean; readonly key?: string; readonly leadAt?: string; readonly wires?: (wires: Wires, to: PeerId | null) => void; readonly pieces?: PieceCache } = {}): Guest {
    const { key = roomKey, leadAt = leadId } = options;
    const guest: Omit<Guest, 'driver'> = { wires: makeWires(), sources: 0, problems: [], notices: [], declined: [] };
    const endpoint: Endpoint = {
      id: name,
      connect: (remote, handlers): Promise<Connection> => {
        const wires = makeWires();
        const other = this.#guests.find(({ driver: { view } }) => view.self === remote);
        if (other === undefined) guest.wires = wires;
        else guest.sources += 1;
        options.wires?.(wires, other === undefined ? null : other.driver.view.self);
        const ids = [name, remote] as const;
        const caller = side(wires, 'caller', { key, handlers }, { identity: async () => identity('caller', key, ...ids) });
        const callee = side(wires, 'callee', { key: roomKey, handlers }, {
          identity: async () => identity('callee', roomKey, ...ids),
          handlers: (connection) => (other === undefined ? this.lead : other.driver).accept(connection),
        });
        // Whoever is not let in hears of it at the other end.
        callee.opened.catch(() => undefined);
        openAll(wires);
        return caller.opened;
      },
      destroy: () => undefined,
    };
    const driver = new MemberDriver({
      config: { name, wantsToWatch: options.watch ?? false, device, holderHash: holderOf(name), canSucceed: false, saved: null, seed: 1 },
      heir: { keepRun: nobodyAsks, saveCheckpoint: nobodyAsks, claim: nobodyAsks, leads: () => undefined },
      ownId: () => name,
      directory: {
        useKeys: () => undefined,
        lookUp: async () => ({ coordinator: leadAt, term, expiresInMs: 1e6, isReleased: false, step: 0, successor: false }),
        create: nobodyAsks,
        takeOver: nobodyAsks,
        renew: nobodyAsks,
        release: nobodyAsks,
        iceServers: nobodyAsks,
        serverUrls: nobodyAsks,
      },
      endpoint: async () => endpoint,
      trainer: options.watch === true ? null : cpuTrainer(this.#memo),
      pieces: options.pieces ?? piecesInMemory(),
      nowMs: () => this.nowMs(),
      changed: () => {
        this.#changed();
      },
      problem: (problem) => {
        guest.problems.push(problem);
        this.#changed();
      },
      notice: (notice) => {
        guest.notices.push(notice);
        this.#changed();
      },
      declined: (answer) => {
        guest.declined.push(answer.reason);
        this.#changed();
      },
      run: () => undefined,
    });
    const joined = Object.assign(guest, { driver });
    this.#guests.push(joined);
    return joined;
  }

  command(command: 'pause' | 'resume'): void {
    this.lead.dispatch({ type: 'command', command });
  }

  /** Time passes for everybody, with a tick every quarter of a second. */
  pass(durationMs: number): void {
    for (let left = durationMs; left > 0; left -= 250) {
      this.#nowMs += 250;
      for (const driver of [this.lead, ...this.#guests.map((guest) => guest.driver)]) driver.dispatch({ type: 'tick' });
    }
  }

  /** Resolves as soon as it is so, looking whenever something has changed; rejects with the room's story when nothing changes any more. */
  async until(what: string, isSo: () => boolean): Promise<void> {
    while (!isSo()) {
      await new Promise<void>((resolve, reject) => {
        const timer = setTimeout(() => {
          reject(new Error(`it never came to this: ${what}\n${this.#story()}`));
        }, stuckAfterMs);
        this.#waiting.push(() => {
          clearTimeout(timer);
          resolve();
        });
      });
    }
  }

  #story(): string {
    const { step, phase, peers } = this.lead.view;
    const guests = this.#guests.map(({ driver, problems, notices }) => {
      const { connection, self } = driver.view;
      return `${self ?? 'a guest'} is ${connection}; problems ${problems.map((problem) => problem?.code ?? 'none').join()}; ${notices.join(' ')}`;
    });
    return [`Ada is ${phase} at step ${step} with ${peers.length} in the room. ${this.notices.join(' ')}`, ...guests].join('\n');
  }

  async close(): Promise<void> {
    for (const { driver } of this.#guests) driver.close('the test is over');
    await this.lead.close('the test is over');
  }

  #changed(): void {
    for (const look of this.#waiting.splice(0)) look();
  }
}

export function piecesInMemory(): PieceCache & { readonly size: number } {
  let pieces = new Map<string, ArrayBuffer>();
  return {
    get size() {
      return pieces.size;
    },
    async known(hashes) {
      pieces = new Map([...pieces].filter(([hash]) => hashes.includes(hash)));
      return pieces;
    },
    keep(hash, bytes) {
      pieces.set(hash, bytes);
    },
    async clear() {
      pieces.clear();
    },
  };
}

function nobodyAsks(): Promise<never> {
  return Promise.reject(new Error('a member only looks the room up'));
}
