/** A member's tab in a simulated room: carries the member's effects out as the session does, in virtual time. */
import { createMember, memberStep, memberView } from '../../src/room/member.ts';
import type { MemberState } from '../../src/room/member.ts';
import type { MemberEffect, MemberEvent } from '../../src/room/machine.ts';
import { coordinatorBlobSchema, coordinatorMessageSchema } from '../../src/room/messages.ts';
import type { MemberBlob, PeerDevice, PeerId } from '../../src/room/messages.ts';
import { decodeHistory, HistoryError } from '../../src/session/history.ts';
import { decodeRows, RowsError } from '../../src/session/rows.ts';
import * as v from 'valibot';
import { CpuTrainer } from './cpu-trainer.ts';
import type { SimulatedGpu } from './gpu.ts';
import type { Truth } from './ledger.ts';
import { MachineHost } from './machine-host.ts';
import type { End, Handlers } from './network.ts';
import { CheckedShelf } from './shelf.ts';
import type { World } from './world.ts';

/** What a dishonest peer sends instead of its contribution: any number of blobs. */
export type Lie = (header: MemberBlob, bytes: ArrayBuffer) => readonly { readonly header: MemberBlob; readonly bytes: ArrayBuffer }[];

export interface MemberOptions {
  readonly device: PeerDevice;
  readonly wantsToWatch: boolean;
  readonly lie: Lie | null;
}

const gpuMs = { load: 5, take: 3 };
const leastLookUpMs = 5;
const mostLookUpMs = 60;

export class MemberHost extends MachineHost {
  /** False: lookups fail, as while the signalling server is down. */
  canLookUp = true;
  readonly #options: MemberOptions;
  readonly #shelf: CheckedShelf;
  readonly #events: MemberEvent[] = [];
  #trainer: CpuTrainer | null = null;
  #state: MemberState;
  #isDispatching = false;
  #attempt = 0;
  #end: End | null = null;
  #held: Truth | null = null;

  constructor(world: World, machine: string, gpu: SimulatedGpu, options: MemberOptions) {
    super(world, machine, gpu);
    this.#options = options;
    this.#shelf = new CheckedShelf(world.log, machine);
    const config = { name: machine, wantsToWatch: options.wantsToWatch, device: options.device, seed: this.random.below(2 ** 31) };
    world.log.note(machine, `opens the page as ${this.address}`);
    const { state, effects } = createMember(config, this.nowMs());
    this.#state = state;
    this.#carryAll(effects);
  }

  get state(): MemberState {
    return this.#state;
  }

  get view() {
    return memberView(this.#state);
  }

  get unusedBlobs(): number {
    return this.#shelf.size - this.#state.blobs.length - this.#state.assignments.length - (this.#state.earlyHistory === null ? 0 : 1);
  }

  protected override tick(): void {
    this.dispatch({ type: 'tick' });
  }

  dispatch(event: MemberEvent): void {
    this.#events.push(...(this.world.tampering.memberEvents?.(event) ?? [event]));
    if (this.#isDispatching) return;
    this.#isDispatching = true;
    for (let next = this.#events.shift(); next !== undefined; next = this.#events.shift()) {
      const { state, effects } = memberStep(this.#state, next, this.nowMs());
      this.#state = state;
      this.#carryAll(effects);
    }
    this.#isDispatching = false;
  }

  /** The GPU is lost now, and opened again after some time. */
  loseGpu(downMs: number): void {
    if (!this.isOpen) return;
    this.gpu.lose();
    this.#trainer = null;
    const problem = { code: 'gpu-lost', message: 'The GPU was lost.' };
    this.enter(() => {
      this.dispatch({ type: 'device', device: { ...this.#options.device, problem } });
    });
    this.world.clock.after(downMs, () => {
      this.enter(() => {
        this.dispatch({ type: 'device', device: this.#options.device });
      });
    });
  }

  #carryAll(effects: readonly MemberEffect[]): void {
    for (const effect of this.world.tampering.memberEffects?.(effects) ?? effects) this.#carry(effect);
  }

  #carry(effect: MemberEffect): void {
    const { log } = this.world;
    switch (effect.type) {
      case 'lookUp':
        return this.#lookUp();
      case 'connect':
        log.note(this.machine, `connects to ${effect.coordinator}`);
        return this.#connect(effect.coordinator);
      case 'disconnect':
        log.note(this.machine, 'disconnects');
        this.#attempt += 1;
        this.#end?.close();
        this.#end = null;
        return;
      case 'send':
        if (effect.message.type !== 'pong') log.note(this.machine, `sends ${JSON.stringify(effect.message).slice(0, 140)}`);
        this.#end?.sendControl(effect.message);
        return;
      case 'describe':
        return;
      case 'prepare':
        this.#trainer = new CpuTrainer(this.world.run.settings, this.world.run.memo);
        return;
      case 'readHistory':
        return this.#readHistory(effect);
      case 'loadReplica':
      case 'applyUpdate':
        return this.#load(effect);
      case 'compute':
        return this.#compute(effect);
      case 'cancel':
        this.gpu.cancel(effect.assignment);
        return;
      case 'sendContribution':
        return this.#sendContribution(effect.header);
      case 'discardBlob':
        log.note(this.machine, `discards ${effect.ref}: ${effect.reason}`);
        this.#shelf.take(effect.ref);
        return;
      case 'problem':
        log.note(this.machine, `problem ${effect.problem?.code ?? 'none'}`);
        return;
      case 'changed':
        return;
    }
  }

  #lookUp(): void {
    const { clock, directory } = this.world;
    clock.after(this.random.between(leastLookUpMs, mostLookUpMs), () => {
      this.enter(() => {
        this.dispatch(this.canLookUp ? { type: 'directory', lead: directory.lookUp(clock.nowMs) } : { type: 'directoryUnreachable' });
      });
    });
  }

  #readHistory(effect: Extract<MemberEffect, { type: 'readHistory' }>): void {
    const bytes = this.#shelf.take(effect.ref);
    let points;
    try {
      points = decodeHistory(bytes, effect);
    } catch (error) {
      if (!(error instanceof HistoryError)) throw error;
      return this.#distrust();
    }
    this.dispatch({ type: 'historyRead', ref: effect.ref, points });
  }

  #distrust(): void {
    this.#attempt += 1;
    this.#end?.close();
    this.#end = null;
    this.dispatch({ type: 'disconnected', reason: 'what it sent is not valid' });
  }

  #connect(coordinator: PeerId): void {
    this.#attempt += 1;
    const attempt = this.#attempt;
    const whileCurrent = (action: () => void): void => {
      this.enter(() => {
        if (attempt === this.#attempt) action();
      });
    };
    const handlers: Handlers = {
      control: (json) => {
        whileCurrent(() => {
          const message = v.safeParse(coordinatorMessageSchema, json);
          if (message.success) this.dispatch({ type: 'message', message: message.output });
          else this.#distrust();
        });
      },
      blob: (json, bytes) => {
        whileCurrent(() => {
          const header = v.safeParse(coordinatorBlobSchema, json);
          if (header.success) this.dispatch({ type: 'blob', header: header.output, ref: this.#shelf.put(bytes) });
          else this.#distrust();
        });
      },
      closed: (reason) => {
        whileCurrent(() => {
          this.#end = null;
          this.dispatch({ type: 'disconnected', reason });
        });
      },
    };
    this.world.network.connect({ machine: this.machine, address: this.address }, coordinator, handlers, (end) => {
      if (!this.isOpen || attempt !== this.#attempt) return end?.close();
      whileCurrent(() => {
        this.#end = end;
        if (end !== null) this.dispatch({ type: 'connected', coordinator });
        else this.dispatch({ type: 'connectFailed', problem: { code: 'connection-failed', message: 'ICE failed.' } });
      });
    });
  }

  #load(effect: Extract<MemberEffect, { type: 'loadReplica' | 'applyUpdate' }>): void {
    const bytes = this.#shelf.take(effect.ref);
    const isReplica = effect.type === 'loadReplica';
    const { step } = effect;
    const asked = this.#trainer;
    this.gpu.submit('load', gpuMs.load, async () => {
      // A lost GPU refuses everything, also before its loss is reported.
      const trainer = this.#stillThere(asked);
      const loaded = isReplica ? trainer?.loadReplica(step, bytes) : trainer?.applyUpdate(step, bytes);
      const hash = (await loaded?.catch((error: unknown) => this.#refused(error))) ?? null;
      if (hash === null) {
        return this.enter(() => {
          this.dispatch({ type: 'replicaFailed', step, reason: 'the trainer refused it' });
        });
      }
      this.world.ledger.replicaHeld(this.machine, this.view.term, isReplica ? step : step + 1, hash);
      this.enter(() => {
        this.dispatch(isReplica ? { type: 'replicaLoaded', step, hash } : { type: 'updateApplied', step, hash });
      });
    });
  }

  #compute({ assignment, step, microbatches, ref }: Extract<MemberEffect, { type: 'compute' }>): void {
    const { ledger } = this.world;
    const bytes = this.#shelf.take(ref);
    const result = { type: 'computed', assignment, step, computeMs: 1, tokens: 1 } as const;
    const asked = this.#trainer;
    this.gpu.submit(assignment, microbatches.length * this.gpu.msPerMicrobatch, async (isCancelled) => {
      const job = isCancelled ? null : this.#decode(bytes, microbatches);
      const trainer = this.#stillThere(asked);
      if (job === null || trainer === null) {
        return this.enter(() => {
          this.dispatch({ ...result, lossSum: 0, weightSum: 0, failed: true });
        });
      }
      const computed = trainer.computeGradients({ assignment, step, microbatches: job });
      const sums = await computed.catch((error: unknown) => this.#refused(error));
      if (sums === null) {
        return this.enter(() => {
          this.dispatch({ ...result, lossSum: 0, weightSum: 0, failed: true });
        });
      }
      const { lossSum, weightSum } = sums;
      const work = ledger.workIn(bytes);
      this.#held = work === null ? null : { ...work, replicaHash: trainer.hash, by: this.machine };
      this.enter(() => {
        this.dispatch({ ...result, lossSum, weightSum, failed: false });
      });
    });
  }

  /** A call made before the GPU was lost is not answered by the one opened after it. */
  #stillThere(asked: CpuTrainer | null): CpuTrainer | null {
    return asked === this.#trainer ? asked : null;
  }

  /** An honest network never makes the trainer refuse anything. */
  #refused(error: unknown): null {
    if (this.world.network.faults.corrupt === 0) throw error;
    return null;
  }

  #decode(bytes: ArrayBuffer, microbatches: readonly number[]) {
    const { settings } = this.world.run;
    const expected = {
      microbatches: microbatches.length,
      rows: settings.rowsPerMicrobatch,
      contextLength: settings.contextLength,
      vocabularySize: settings.model.vocab_size,
    };
    try {
      return decodeRows(bytes, expected).map((rows, at) => ({ index: microbatches[at] ?? 0, rows }));
    } catch (error) {
      if (error instanceof RowsError) return null;
      throw error;
    }
  }

  #sendContribution(header: MemberBlob): void {
    const end = this.#end;
    const truth = this.#held;
    const asked = this.#trainer;
    this.gpu.submit('take', gpuMs.take, async () => {
      const trainer = this.#stillThere(asked);
      if (trainer === null || end === null) return;
      const bytes = await trainer.takeContribution(header.assignment);
      if (truth !== null) this.world.ledger.contributionEncoded(bytes, truth);
      for (const sent of this.#options.lie?.(header, bytes) ?? [{ header, bytes }]) end.sendBlob(sent.header, sent.bytes);
    });
  }
}
