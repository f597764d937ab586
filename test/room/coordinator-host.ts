/** The tab that leads a simulated room: carries the coordinator's effects out as the session does, in virtual time. */
import { weightOf } from '../../src/data/batches.ts';
import { coordinatorStep, coordinatorView, createCoordinator } from '../../src/room/coordinator.ts';
import type { CoordinatorState } from '../../src/room/coordinator.ts';
import type { CoordinatorConfig, CoordinatorEffect, CoordinatorEvent } from '../../src/room/machine.ts';
import { memberBlobSchema, memberMessageSchema } from '../../src/room/messages.ts';
import type { HistoryPoint, PeerDevice, PeerId, Step, Term } from '../../src/room/messages.ts';
import { encodeHistory } from '../../src/session/history.ts';
import { encodeRows } from '../../src/session/rows.ts';
import * as v from 'valibot';
import { CpuTrainer } from './cpu-trainer.ts';
import type { SimulatedGpu } from './gpu.ts';
import type { Truth } from './ledger.ts';
import { MachineHost } from './machine-host.ts';
import type { End, Handlers } from './network.ts';
import { CheckedShelf } from './shelf.ts';
import type { World } from './world.ts';

export interface CoordinatorOptions {
  readonly device: PeerDevice;
  readonly startPaused: boolean;
  readonly evalEvery: number;
  readonly checkpointEverySteps: number;
}

/** Virtual times of the trainer's smaller calls. */
const gpuMs = { add: 2, commit: 6, copy: 4, evaluate: 20 };
const diskMs = 60;
/** Too frequent to be worth a line of the timeline. */
const unnoted: ReadonlySet<string> = new Set(['ping', 'peers']);
const leaseMs = 6_000;
const renewMs = 2_000;

export class CoordinatorHost extends MachineHost {
  readonly term: Term;
  readonly #trainer: CpuTrainer;
  readonly #shelf: CheckedShelf;
  readonly #ends = new Map<PeerId, End>();
  readonly #events: CoordinatorEvent[] = [];
  #state: CoordinatorState;
  #isDispatching = false;
  #held: Truth | null = null;
  #update: { readonly step: number; readonly bytes: ArrayBuffer } | null = null;

  /** Restores the run from the disk's checkpoint, or starts it, and takes the lead. */
  static async start(world: World, machine: string, gpu: SimulatedGpu, options: CoordinatorOptions): Promise<CoordinatorHost> {
    const trainer = new CpuTrainer(world.run.settings, world.run.memo);
    const hash = world.disk === null ? await trainer.initialize() : await trainer.restore(world.disk.state);
    return new CoordinatorHost(world, machine, gpu, options, trainer, hash);
  }

  private constructor(world: World, machine: string, gpu: SimulatedGpu, options: CoordinatorOptions, trainer: CpuTrainer, hash: string) {
    super(world, machine, gpu);
    this.#trainer = trainer;
    this.#shelf = new CheckedShelf(world.log, machine);
    const { clock, directory, disk, run } = world;
    const term = directory.take(this.address as PeerId, directory.term, clock.nowMs + leaseMs);
    if (term === null) throw new Error('somebody else took the lead at the same moment');
    this.term = term;
    const startStep = (disk?.step ?? 0) as Step;
    const config: CoordinatorConfig = {
      self: this.address as PeerId,
      name: machine,
      term,
      run: JSON.stringify(run.settings),
      steps: run.settings.steps,
      microbatchesPerStep: run.source.microbatchesPerStep,
      tokensPerMicrobatch: run.tokensPerMicrobatch,
      weightOfMicrobatch: (step, microbatch) => weightOf(run.source.draw(step, microbatch)),
      selfDevice: options.device,
      evalEvery: options.evalEvery,
      checkpointEveryMs: 60_000,
      checkpointEverySteps: options.checkpointEverySteps,
      startStep,
      startHash: hash,
      history: disk === null ? [] : (JSON.parse(disk.history) as HistoryPoint[]),
      startedAtMs: disk?.startedAtMs ?? 0,
      startPaused: options.startPaused && disk === null,
    };
    world.log.note(machine, `leads under term ${term} from step ${startStep}`);
    world.ledger.reignBegan(term, startStep, hash);
    world.network.listen({ machine, address: this.address, accept: (end) => this.#accept(end) });
    const { state, effects } = createCoordinator(config, this.nowMs());
    this.#state = state;
    this.#carryAll(effects);
    this.#renewLater();
  }

  get state(): CoordinatorState {
    return this.#state;
  }

  get view() {
    return coordinatorView(this.#state);
  }

  get unusedBlobs(): number {
    return this.#shelf.size;
  }

  protected override tick(): void {
    this.dispatch({ type: 'tick' });
  }

  dispatch(event: CoordinatorEvent): void {
    this.#events.push(...(this.world.tampering.coordinatorEvents?.(event) ?? [event]));
    if (this.#isDispatching) return;
    this.#isDispatching = true;
    for (let next = this.#events.shift(); next !== undefined; next = this.#events.shift()) {
      const { state, effects } = coordinatorStep(this.#state, next, this.nowMs());
      this.#state = state;
      this.#checkWork();
      this.#carryAll(effects);
    }
    this.#isDispatching = false;
  }

  /** Every micro-batch is in exactly one place. */
  #checkWork(): void {
    const { work } = this.#state;
    if (work === null) return;
    const waiting = [...work.pool, ...[...work.assignments.values()].flatMap((assignment) => assignment.microbatches)];
    const isWhole = new Set(waiting).size === waiting.length && waiting.length === work.missing;
    if (!isWhole) this.world.log.fail(`step ${work.step} misses ${work.missing} micro-batches and knows of [${waiting.join()}]`);
  }

  #accept(end: End): Handlers {
    const peer = end.remote as PeerId;
    this.enter(() => {
      this.#ends.get(peer)?.close();
      this.#ends.set(peer, end);
      this.dispatch({ type: 'peerOpened', peer });
    });
    const whileCurrent = (action: () => void): void => {
      this.enter(() => {
        if (this.#ends.get(peer) === end) action();
      });
    };
    const distrust = (): void => {
      end.close();
      this.#ends.delete(peer);
      this.dispatch({ type: 'peerClosed', peer, reason: 'what it sent is not valid' });
    };
    return {
      control: (json) => {
        whileCurrent(() => {
          const message = v.safeParse(memberMessageSchema, json);
          if (message.success) this.dispatch({ type: 'message', from: peer, message: message.output });
          else distrust();
        });
      },
      blob: (json, bytes) => {
        whileCurrent(() => {
          const header = v.safeParse(memberBlobSchema, json);
          if (!header.success) return distrust();
          this.dispatch({ type: 'blob', from: peer, header: header.output, ref: this.#shelf.put(bytes), bytes: bytes.byteLength });
        });
      },
      closed: (reason) => {
        whileCurrent(() => {
          this.#ends.delete(peer);
          this.dispatch({ type: 'peerClosed', peer, reason });
        });
      },
    };
  }

  #carryAll(effects: readonly CoordinatorEffect[]): void {
    for (const effect of this.world.tampering.coordinatorEffects?.(effects) ?? effects) this.#carry(effect);
  }

  #carry(effect: CoordinatorEffect): void {
    const { log, run } = this.world;
    switch (effect.type) {
      case 'send':
        if (!unnoted.has(effect.message.type)) log.note(this.machine, `→ ${effect.to} ${describe(effect.message)}`);
        this.#ends.get(effect.to)?.sendControl(effect.message);
        return;
      case 'assign': {
        const { step, microbatches, assignment } = effect.header;
        log.note(this.machine, `→ ${effect.to} assignment ${assignment} [${microbatches.join()}]`);
        const bytes = encodeRows(microbatches.map((index) => run.source.draw(step, index)));
        this.world.ledger.workSent(bytes, step, microbatches);
        this.#ends.get(effect.to)?.sendBlob(effect.header, bytes);
        return;
      }
      case 'sendHistory': {
        const { bytes, checksum } = encodeHistory(effect.history);
        log.note(this.machine, `→ ${effect.to} history of ${effect.history.length} points`);
        this.#ends.get(effect.to)?.sendBlob({ kind: 'history', term: this.term, checksum }, bytes);
        return;
      }
      case 'sendReplica':
        log.note(this.machine, `→ ${effect.to} replica at ${effect.step}`);
        return this.#sendReplica(effect.to, effect.step);
      case 'sendUpdate': {
        const update = this.#update;
        if (update?.step !== effect.step) return log.fail(`update ${effect.step} is to be sent but was not encoded`);
        for (const peer of effect.to) this.#ends.get(peer)?.sendBlob({ kind: 'update', term: this.term, step: effect.step }, update.bytes);
        return;
      }
      case 'beginStep':
        return this.#gpuJob('begin', 0, async () => {
          this.world.ledger.stepBegan(this.term, effect.step);
          await this.#trainer.beginStep(effect.step);
        });
      case 'computeOwn':
        log.note(this.machine, `computes ${effect.assignment} [${effect.microbatches.join()}]`);
        return this.#computeOwn(effect);
      case 'cancelOwn':
        this.gpu.cancel(effect.assignment);
        return;
      case 'addOwn':
        return this.#add(effect.assignment, async () => {
          await this.#trainer.addOwnContribution(effect.assignment);
          this.world.ledger.added(this.term, effect.step, this.#held);
        });
      case 'addBlob': {
        const bytes = this.#shelf.take(effect.ref);
        return this.#add(effect.assignment, async () => {
          await this.#trainer.addContribution(effect.step, bytes);
          this.world.ledger.added(this.term, effect.step, this.world.ledger.contributionIn(bytes));
        });
      }
      case 'discardBlob':
        log.note(this.machine, `discards ${effect.ref}: ${effect.reason}`);
        this.#shelf.take(effect.ref);
        return;
      case 'commit':
        return this.#commit(effect);
      case 'evaluate':
        return this.#gpuJob('evaluate', gpuMs.evaluate, async () => {
          const loss = await this.#trainer.evaluate(run.source.validation);
          this.enter(() => {
            this.dispatch({ type: 'evaluated', step: effect.step, loss });
          });
        });
      case 'checkpoint':
        return this.#checkpoint(effect.step, effect.reason);
      case 'closePeer':
        log.note(this.machine, `closes ${effect.peer}: ${effect.reason}`);
        this.#ends.get(effect.peer)?.close();
        this.#ends.delete(effect.peer);
        return;
      case 'problem':
        log.note(this.machine, `problem ${effect.problem.code}`);
        return;
      case 'changed':
        return;
    }
  }

  #gpuJob(label: string, durationMs: number, action: () => Promise<void>): void {
    this.gpu.submit(label, durationMs, action);
  }

  #sendReplica(to: PeerId, step: Step): void {
    this.#gpuJob('replica', gpuMs.copy, async () => {
      const replica = await this.#trainer.replica();
      if (replica.step !== step) this.world.log.fail(`a replica at ${step} was asked for when it is at ${replica.step}`);
      this.#ends.get(to)?.sendBlob({ kind: 'replica', term: this.term, step }, replica.bytes);
    });
  }

  #computeOwn({ assignment, step, microbatches }: Extract<CoordinatorEffect, { type: 'computeOwn' }>): void {
    const result = { type: 'ownResult', assignment, step, computeMs: 1, tokens: 1 } as const;
    this.gpu.submit(assignment, microbatches.length * this.gpu.msPerMicrobatch, async (isCancelled) => {
      if (isCancelled) {
        return this.enter(() => {
          this.dispatch({ ...result, lossSum: 0, weightSum: 0, failed: true });
        });
      }
      const jobs = microbatches.map((index) => ({ index, rows: this.world.run.source.draw(step, index) }));
      const { lossSum, weightSum } = await this.#trainer.computeGradients({ assignment, step, microbatches: jobs });
      this.#held = { step, microbatches, replicaHash: this.#trainer.hash, by: this.machine };
      this.enter(() => {
        this.dispatch({ ...result, lossSum, weightSum, failed: false });
      });
    });
  }

  #add(assignment: string, add: () => Promise<void>): void {
    this.#gpuJob('add', gpuMs.add, async () => {
      try {
        await add();
      } catch (error) {
        if (!(error instanceof Error) || error.name !== 'CodecError') throw error;
        return this.enter(() => {
          this.dispatch({ type: 'contributionRejected', assignment, reason: error.message });
        });
      }
      this.enter(() => {
        this.dispatch({ type: 'contributionAdded', assignment });
      });
    });
  }

  #commit({ step, lossSum, weightSum, encodeUpdate }: Extract<CoordinatorEffect, { type: 'commit' }>): void {
    this.#gpuJob('commit', gpuMs.commit, async () => {
      const result = await this.#trainer.commit(step, weightSum, { encodeUpdate, encodeGradient: false });
      const { gradNorm, learningRate, replicaHash, applied, update } = result;
      this.world.log.note(this.machine, `commits step ${step}, loss ${(lossSum / weightSum).toFixed(4)}`);
      if (applied) this.world.ledger.committed(this.term, step, lossSum / weightSum, replicaHash);
      if (update !== null) this.#update = { step, bytes: update };
      const metrics = { gradNorm, learningRate, replicaHash, applied, updateBytes: update?.byteLength ?? 0 };
      this.enter(() => {
        this.dispatch({ type: 'committed', step, metrics });
      });
    });
  }

  #checkpoint(step: Step, reason: string): void {
    const { world, term } = this;
    const history = JSON.stringify(this.#state.history.filter((point) => point.step < step));
    this.#gpuJob('save', gpuMs.copy, async () => {
      const state = await this.#trainer.masterState();
      if (state.step !== step) world.log.fail(`a checkpoint of step ${step} was asked for when the weights are at ${state.step}`);
      world.clock.after(diskMs, () => {
        if (!this.isOpen) return;
        world.log.note(this.machine, `saved step ${step} (${reason})`);
        world.disk = { room: 'room', term, step, savedAtMs: world.clock.nowMs, startedAtMs: 0, loss: null, history, state };
      });
    });
  }

  #renewLater(): void {
    const { clock, directory } = this.world;
    clock.after(renewMs, () => {
      if (this.isOpen && directory.renew(this.term, clock.nowMs + leaseMs)) this.#renewLater();
    });
  }
}

function describe(message: { readonly type: string }): string {
  const { type, ...rest } = message;
  const text = JSON.stringify(rest);
  return `${type} ${text.length > 120 ? `${text.slice(0, 120)}…` : text}`;
}
