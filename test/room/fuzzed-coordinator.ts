/**
 * A coordinator under fuzz: its driver does what the effects ask, in order but at any moment and with failures, while peers
 * whose keys are right send whatever passes the schemas. Two of them also answer honestly now and then, so that steps go on.
 */
import { coordinatorView } from '../../src/room/coordinator.ts';
import type { CoordinatorState } from '../../src/room/coordinator.ts';
import type { BlobRef, CoordinatorEffect, CoordinatorEvent } from '../../src/room/machine.ts';
import { awake, coordinatorBlobSchema, coordinatorMessageSchema, memberBlobSchema, memberMessageSchema, protocolVersion } from '../../src/room/messages.ts';
import type { MemberBlob, MemberMessage } from '../../src/room/messages.ts';
import { ownerCommandSchema } from '../../src/room/rules.ts';
import type { OwnerCommand } from '../../src/room/rules.ts';
import { CoordinatorBench, goodDevice, hashAt, holderOf, peer } from './bench.ts';
import { expectSendable, expectTrue, neverFails, Wire } from './fuzz.ts';
import type { Move } from './fuzz.ts';
import { Random } from './random.ts';
import { sample } from './samples.ts';

export const memberWires = { message: new Wire<MemberMessage>(memberMessageSchema), blob: new Wire<MemberBlob>(memberBlobSchema) };

/** Those are honest but for a message now and then; these never are. */
const honest = ['bob', 'cid'];
const hostile = ['eve', 'mal'];
const weightOfMicrobatch = 9;
const weightOfHeldOut = 7;
const steps = 40;

/** What a driver or an honest peer owes for an effect; `from` when it is a peer's. */
interface Answer {
  readonly from: string | null;
  readonly events: (random: Random) => readonly CoordinatorEvent[];
}

const leaseMs = 5_000;

export class FuzzedCoordinator {
  readonly #room = new CoordinatorBench({ steps, evalEvery: 5, checkpointEverySteps: 3, weightOfMicrobatch: () => weightOfMicrobatch, validationWeights: [weightOfHeldOut, weightOfHeldOut], patience: 2 });
  readonly #open = new Set<string>();
  readonly #refs = new Map<BlobRef, 'held' | 'let go'>();
  #answers: Answer[] = [];

  constructor() {
    this.#carryOut(this.#room.effects);
    for (const name of honest) this.#join(name);
  }

  play(move: Move): void {
    const random = new Random(move.seed);
    this.#room.nowMs += move.afterMs;
    const name = random.pick(random.chance(0.2) ? honest : hostile);
    const chosen = random.next();
    if (move.json === undefined && chosen < 0.25) return this.#answer(random);
    if (move.json === undefined && chosen < 0.3) return this.#drive(random, name);
    if (!this.#open.has(name)) return random.chance(0.8) ? this.#join(name) : this.#connect(name);
    if (random.chance(this.#given(name).length > 0 ? 0.5 : 0.2)) {
      const header = memberWires.blob.receive(move, random, (key) => this.#hints(key, name));
      if (header !== null) this.#send(this.#blob(name, header));
    } else {
      const message = memberWires.message.receive(move, random, (key) => this.#hints(key, name));
      if (message !== null) this.#send({ type: 'message', from: peer(name), message });
    }
  }

  /** Everybody is gone: the coordinator alone must go on. */
  goOn(): void {
    for (const name of [...this.#open]) this.#close(name);
    if (this.#room.state.phase === 'stopped') return;
    this.#send({ type: 'ownDevice', device: goodDevice });
    const { step: before } = this.#room.state;
    // An order to close it may be on its way: it is carried out when what is committed is announced.
    const isClosed = (): boolean => this.#room.state.rules.isClosed && this.#room.state.phase === 'stopped';
    const isDone = (): boolean => this.#room.state.phase === 'finished' || this.#room.state.step > before || isClosed();
    for (let count = 0; count < 400 && !isDone(); count += 1) {
      this.#room.nowMs += 250;
      this.#send({ type: 'lease', untilMs: this.#room.nowMs + leaseMs });
      this.#send({ type: 'command', command: 'resume' });
      while (this.#answers.length > 0 && !isDone()) this.#answerNext(neverFails, false);
    }
    expectTrue(isDone(), `the room stands still at step ${before}`);
  }

  /** What is worth guessing for a hostile peer. */
  #hints(key: string, name: string): readonly unknown[] {
    const { state } = this.#room;
    const { config, work } = state;
    const given = this.#given(name);
    switch (key) {
      case 'term':
        return [...Array.from({ length: 8 }, () => config.term), config.term + 1, config.term - 1];
      case 'step':
        return [state.step, state.step, state.step, state.step, state.step + 1, state.step - 1];
      case 'assignment':
        return [...given, ...given, ...(work?.assignments.values() ?? [])].map(({ id }) => id);
      case 'weightSum':
        return given.map(({ microbatches }) => weightOfMicrobatch * microbatches.length);
      case 'revision':
        return [state.rules.revision, state.proposed?.revision ?? 0];
      case 'hash':
        return [hashAt(state.step), hashAt(state.step + 1)];
      case 'protocol':
        return [protocolVersion];
      case 'wantsToWatch':
        return [false];
      case 'problem':
        return [null];
      default:
        return [];
    }
  }

  #given(name: string) {
    return [...(this.#room.state.work?.assignments.values() ?? [])].filter(({ worker, phase }) => worker === name && phase === 'open');
  }

  #join(name: string): void {
    this.#connect(name);
    const message: MemberMessage = { type: 'hello', protocol: protocolVersion, name, wantsToWatch: false, device: goodDevice, canSucceed: true, holderHash: holderOf(name), presence: awake, replica: null };
    this.#send({ type: 'message', from: peer(name), message });
  }

  #connect(name: string): void {
    this.#open.add(name);
    this.#send({ type: 'peerOpened', peer: peer(name) });
  }

  #close(name: string): void {
    this.#open.delete(name);
    this.#answers = this.#answers.filter(({ from }) => from !== name);
    this.#send({ type: 'peerClosed', peer: peer(name), reason: '' });
  }

  /** What happens to a coordinator besides answers. */
  #drive(random: Random, name: string): void {
    const { state } = this.#room;
    const chosen = random.next();
    if (chosen < 0.15) return this.#send({ type: 'tick' });
    if (chosen < 0.3) return this.#send({ type: 'lease', untilMs: this.#room.nowMs + random.between(-leaseMs, leaseMs) });
    if (chosen < 0.5 && this.#open.has(name)) return this.#close(name);
    if (chosen < 0.7) return this.#send({ type: 'command', command: 'resume' });
    if (chosen < 0.75) return this.#send({ type: 'command', command: 'pause' });
    if (chosen < 0.755) return this.#send({ type: 'command', command: 'stop' });
    if (chosen < 0.8) return this.#order(random, name);
    if (chosen < 0.85) return this.#send({ type: 'sampled', step: state.step, text: 'abc' });
    const isBroken = state.own.device.problem !== null;
    if (!isBroken && !random.chance(0.3)) return this.#send({ type: 'tick' });
    return this.#send({ type: 'ownDevice', device: { ...goodDevice, problem: isBroken ? null : { code: 'gpu-lost', message: '' } } });
  }

  /** Of an owner who wants anything at all; closing comes rarely, since nothing happens after it. */
  #order(random: Random, from: string): void {
    const command = sample(ownerCommandSchema, random, (key) => (key === 'peer' ? [...honest, ...hostile] : [])) as OwnerCommand;
    if (command.kind === 'close' && !random.chance(0.02)) return;
    this.#send({ type: 'ownerCommand', from: peer(from), order: random.pick(['a', 'b', 'c']).repeat(16), revision: this.#room.state.rules.revision + random.below(3), command });
  }

  #answer(random: Random): void {
    if (this.#answers.length === 0) return this.#send({ type: 'tick' });
    for (let count = 1 + random.below(4); count > 0 && this.#answers.length > 0; count -= 1) this.#answerNext(random, random.chance(0.1));
  }

  /** Those of one peer keep their order, and so do those of the trainer; which of them is next is anybody's guess. */
  #answerNext(random: Random, fails: boolean): void {
    const from = random.pick(this.#answers).from;
    const at = this.#answers.findIndex((answer) => answer.from === from);
    const [answer] = this.#answers.splice(at, 1);
    if (answer === undefined || (fails && from !== null)) return;
    for (const event of answer.events(fails ? random : neverFails)) this.#send(event);
  }

  #blob(name: string, header: MemberBlob): CoordinatorEvent {
    const ref = `ref-${this.#refs.size}` as BlobRef;
    this.#refs.set(ref, 'held');
    return { type: 'blob', from: peer(name), header, ref, bytes: 100 };
  }

  #send(event: CoordinatorEvent): void {
    const before = this.#room.state;
    this.#room.send(event);
    const { state, effects } = this.#room;
    this.#carryOut(effects);
    checkState(before, state);
    for (const id of state.peers.keys()) expectTrue(this.#open.has(id), `${id} is in the room without a connection`);
    if (event.type !== 'blob') return;
    const use = effects.find((effect) => 'ref' in effect && effect.ref === event.ref);
    expectTrue(use !== undefined, 'bytes that came are neither used nor let go');
    if (use?.type !== 'addBlob') return;
    const assignment = before.work?.assignments.get(use.assignment);
    const isAwaited = assignment?.phase === 'open' && assignment.worker === event.from && use.step === before.work?.step;
    expectTrue(isAwaited, 'something is added that was not awaited from this peer');
  }

  #carryOut(effects: readonly CoordinatorEffect[]): void {
    for (const effect of effects) {
      if ('ref' in effect) {
        expectTrue(this.#refs.get(effect.ref) === 'held', 'bytes are used that are not there any more');
        this.#refs.set(effect.ref, 'let go');
      }
      const answer = this.#answerTo(effect);
      if (answer !== null) this.#answers.push(answer);
    }
  }

  #answerTo(effect: CoordinatorEffect): Answer | null {
    const owed = (events: Answer['events'], from: string | null = null): Answer => ({ from, events });
    switch (effect.type) {
      case 'send':
        expectSendable(coordinatorMessageSchema, effect.message);
        expectTrue(this.#open.has(effect.to), 'a message goes to nobody');
        return null;
      case 'assign': {
        expectSendable(coordinatorBlobSchema, effect.header);
        const { term, step: at, assignment, microbatches } = effect.header;
        if (hostile.includes(effect.to)) return null;
        const sums = { lossSum: 18 * microbatches.length, weightSum: weightOfMicrobatch * microbatches.length, computeMs: 5, tokens: 10 };
        return owed(() => [this.#blob(effect.to, { kind: 'contribution', term, step: at, assignment, ...sums })], effect.to);
      }
      case 'offerReplica': {
        const message: MemberMessage = { type: 'ready', term: this.#room.state.config.term, step: effect.step, hash: hashAt(effect.step) };
        const unsent: CoordinatorEvent = { type: 'weightsNotSent', peer: effect.to, reason: 'x' };
        return owed((random) => [random.chance(0.1) ? unsent : { type: 'message', from: effect.to, message }], effect.to);
      }
      case 'computeOwn': {
        const { assignment, step: at, microbatches } = effect;
        const sums = { lossSum: 18 * microbatches.length, weightSum: weightOfMicrobatch * microbatches.length, computeMs: 5, tokens: 10 };
        return owed((random) => [{ type: 'ownResult', assignment, step: at, ...sums, failed: random.chance(0.5) }]);
      }
      case 'addOwn':
      case 'addBlob': {
        const { assignment } = effect;
        return owed((random) => [random.chance(0.5) ? { type: 'contributionRejected', assignment, reason: 'x' } : { type: 'contributionAdded', assignment }]);
      }
      case 'commit': {
        const { step: at, lossSum, weightSum } = effect;
        expectTrue(Number.isFinite(lossSum) && weightSum > 0, `step ${at} is committed with a loss of ${lossSum} over a weight of ${weightSum}`);
        const metrics = { gradNorm: 1, learningRate: 0.01, replicaHash: hashAt(at + 1), updateBytes: 100, gradientBytes: effect.encodeGradient ? 100 : 0 };
        return owed((random) => [{ type: 'committed', step: at, metrics: { ...metrics, applied: !random.chance(0.2) } }]);
      }
      case 'nameSuccessor': {
        const { holderHash } = effect;
        return owed(() => [{ type: 'successorNamed', holderHash }]);
      }
      case 'evaluateOwn': {
        const { assignment, microbatches } = effect;
        return owed((random) => [{ type: 'evaluatedOwn', assignment, lossSum: 2, weightSum: weightOfHeldOut * microbatches.length, failed: random.chance(0.5) }]);
      }
      case 'assignEvaluation': {
        expectSendable(coordinatorBlobSchema, effect.header);
        const { term, assignment, microbatches } = effect.header;
        if (hostile.includes(effect.to)) return null;
        const sums = { lossSum: 2, weightSum: weightOfHeldOut * microbatches.length };
        return owed(() => [{ type: 'message', from: effect.to, message: { type: 'evaluated', term, assignment, ...sums } }], effect.to);
      }
      case 'closePeer':
        expectTrue(this.#open.delete(effect.peer), 'a connection is closed that is not there');
        this.#answers = this.#answers.filter(({ from }) => from !== effect.peer);
        return null;
      default:
        return null;
    }
  }
}

/** What holds after every event, whatever was sent. */
function checkState(before: CoordinatorState, state: CoordinatorState): void {
  const { work, step: at, config, history } = state;
  const announced = state.unannounced === null ? at : at - 1;
  expectTrue(at === before.step || at === before.step + 1, 'a step was lost or done twice');
  expectTrue(state.rules.revision >= before.rules.revision, 'the rules are older than they were');
  expectTrue(state.config.term === before.config.term, 'the term changed');
  expectTrue(history.length === announced && (announced === 0 || history[announced - 1]?.step === announced - 1), 'the history is not that of the steps');
  expectTrue(state.unannounced === null || state.unannounced.step === at - 1, 'what waits to be announced is not the last step');
  const { evaluation } = state;
  if (evaluation !== null) {
    const parts = [...evaluation.open.values()];
    const waiting = [...evaluation.pool, ...parts.flatMap(({ microbatches }) => microbatches)];
    expectTrue(new Set(waiting).size === waiting.length, 'a held-out micro-batch is in two places');
    expectTrue(waiting.length + evaluation.counted === config.validationWeights.length, 'held-out micro-batches were counted twice, or not at all');
    expectTrue(evaluation.step === at - 1, 'other weights are evaluated than everybody holds');
    expectTrue(parts.every(({ worker }) => worker === config.self || state.peers.get(worker)?.stage === 'member'), 'one evaluates who may not');
  }
  if (work !== null) {
    const open = [...work.assignments.values()];
    const waiting = [...work.pool, ...open.filter(({ repeats }) => repeats === null).flatMap(({ microbatches }) => microbatches)];
    const counted = [...work.counted.values()].reduce((sum, count) => sum + count, 0);
    expectTrue(new Set(waiting).size === waiting.length && waiting.length === work.missing, 'a micro-batch is in two places, or in none');
    expectTrue(work.missing + counted === config.microbatchesPerStep, 'micro-batches were counted twice, or not at all');
    expectTrue(Number.isFinite(work.lossSum) && Number.isFinite(work.weightSum), 'the sums of the step are not finite');
    for (const original of open) {
      const repeated = open.filter(({ repeats }) => repeats === original.id).flatMap(({ microbatches }) => microbatches);
      const isAll = repeated.length === original.microbatches.length && original.microbatches.every((index) => repeated.includes(index));
      expectTrue(repeated.length === 0 || (isAll && original.phase === 'open'), 'an assignment is repeated in part, or for nothing');
    }
    expectTrue(open.every(({ repeats }) => repeats === null || work.assignments.has(repeats)), 'what is repeated is not there');
    const workers = open.filter(({ phase }) => phase === 'open').map(({ worker }) => worker);
    expectTrue(workers.every((id) => id === config.self || state.peers.get(id)?.stage === 'member'), 'one works who may not');
  }
  for (const { holding } of state.peers.values()) {
    if (holding === null) continue;
    const { base, acknowledged, sent } = holding;
    expectTrue(base <= sent && sent <= at && (acknowledged ?? base) >= base && (acknowledged ?? base) <= sent, 'a peer holds what it was not sent');
  }
  const speeds = [state.own.work, ...[...state.peers.values()].map((each) => each.work)].map(({ speed }) => speed.perSecond);
  expectTrue(speeds.every((speed) => speed >= 0 && Number.isFinite(speed)), 'a speed is no number');
  expectTrue(coordinatorView(state).step === announced, 'the view is of another step');
}

