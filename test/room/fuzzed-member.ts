/**
 * A member under fuzz: its driver does what the effects ask, in order but at any moment and with failures, while whoever it is
 * connected to sends whatever passes the schemas. Half of those say a proper welcome first.
 */
import { maxQueuedBlobs, maxRememberedCancels, maxRememberedValidations } from '../../src/room/limits.ts';
import type { BlobRef, DirectoryLead, MachineBlob, MemberEffect, MemberEvent } from '../../src/room/machine.ts';
import { memberView } from '../../src/room/member.ts';
import type { MemberState } from '../../src/room/member.ts';
import { coordinatorBlobSchema, coordinatorMessageSchema, memberBlobSchema, memberMessageSchema } from '../../src/room/messages.ts';
import type { CoordinatorBlob, CoordinatorMessage, MemberMessage } from '../../src/room/messages.ts';
import { goodDevice, hashAt, MemberBench, peer, replicaOffer, step, term } from './bench.ts';
import { expectSendable, expectTrue, neverFails, Wire } from './fuzz.ts';
import type { Move } from './fuzz.ts';
import { noRules } from '../../src/room/rules.ts';
import { Random } from './random.ts';

export const coordinatorWires = {
  message: new Wire<CoordinatorMessage>(coordinatorMessageSchema),
  blob: new Wire<CoordinatorBlob>(coordinatorBlobSchema),
};

/** Each keeps its own order. What a connection or a trainer owes is void once it is gone. */
type Debtor = 'directory' | 'connection' | 'trainer';

interface Answer {
  readonly from: Debtor;
  readonly event: (random: Random) => MemberEvent;
}

const firstStep = 5;
const firstTerm = 3;
/** More than the driver would read for an announcement that nobody can have meant. */
const mostPoints = 20;
/** Every blob, to the machine. Some parts of a succession are just as large. */
const pieceBytes = 100;

export class FuzzedMember {
  readonly #member = new MemberBench();
  #isConnected = false;
  /** Of the coordinator that is there now. */
  #term = firstTerm;
  readonly #held = new Set<BlobRef>();
  #refs = 0;
  #answers: Answer[] = [];
  /** What the trainer holds, as its calls would find it. */
  #trainerStep: number | null = null;
  #isLoading = false;
  #isComputing = false;

  /** Joined, with the replica at hand. */
  constructor() {
    this.#carryOut(this.#member.effects);
    while (this.#answers.length > 0) this.#answerNext(neverFails);
  }

  play(move: Move): void {
    const random = new Random(move.seed);
    this.#member.nowMs += move.afterMs;
    const chosen = random.next();
    if (move.json === undefined && chosen < 0.25) return this.#answer(random);
    if (move.json === undefined && chosen < 0.28) return this.#drive(random);
    if (!this.#isConnected) return this.#answer(random);
    if (random.chance(0.45)) {
      const header = coordinatorWires.blob.receive(move, random, (key) => this.#hints(key));
      // Pieces of a replica and their hashes are not for the machine.
      if (header !== null && header.kind !== 'pieceHashes' && header.kind !== 'replicaPiece' && header.kind !== 'updateHashes' && header.kind !== 'updatePiece') this.#send(this.#blob(header));
      return;
    }
    const message = coordinatorWires.message.receive(move, random, (key) => this.#hints(key));
    // A refusal is the end, so most are kept back.
    if (message !== null && (!isFarewell(message) || random.chance(0.1))) this.#send({ type: 'message', message });
  }

  /** An honest coordinator of the newest term leads: whoever was neither sent away nor left must join it. */
  goOn(): void {
    if (this.#isConnected) this.#send({ type: 'disconnected', reason: '' });
    this.#send({ type: 'device', device: goodDevice });
    this.#term = Math.max(this.#term, this.#member.state.highestTerm ?? 0);
    const isDone = (): boolean => ['refused', 'left', 'joined', 'leading'].includes(this.#member.state.phase);
    for (let count = 0; count < 400 && !isDone(); count += 1) {
      this.#member.nowMs += 250;
      this.#send({ type: 'tick' });
      while (this.#answers.length > 0 && !isDone()) this.#answerNext(neverFails);
    }
    expectTrue(isDone(), `it stays ${this.#member.state.phase}, though a coordinator is there`);
  }

  /** What is worth guessing for a hostile coordinator. */
  #hints(key: string): readonly unknown[] {
    const { replica, room, computing, assignments } = this.#member.state;
    const at = replica?.step ?? firstStep;
    switch (key) {
      case 'term':
        return [...Array.from({ length: 8 }, () => room?.term ?? this.#term), this.#term, this.#term + 1];
      case 'step':
        return [at, at, at, at, at + 1, at - 1];
      case 'assignment':
        return [`a${this.#refs}`, `a${this.#refs}`, computing?.assignment, ...assignments.map(({ header }) => header.assignment)];
      case 'historyPoints':
        return [0, 2, at];
      case 'microbatches':
        return [[0, 1]];
      case 'masterBytes':
      case 'corpusBytes':
        return [pieceBytes, pieceBytes, 2 * pieceBytes];
      case 'offset':
        return [0, 0, pieceBytes];
      default:
        return [];
    }
  }

  /** What happens to a member besides answers. */
  #drive(random: Random): void {
    const chosen = random.next();
    const isBroken = this.#member.state.device.problem !== null;
    if (chosen < 0.3) return this.#send({ type: 'tick' });
    if (chosen < 0.5 && this.#isConnected) return this.#send({ type: 'disconnected', reason: '' });
    if (chosen < 0.7) return this.#send({ type: 'command', command: random.chance(0.5) ? 'pause' : 'resume' });
    if (chosen < 0.71) return this.#send({ type: 'command', command: 'leave' });
    if (!isBroken && !random.chance(0.3)) return this.#send({ type: 'tick' });
    this.#send({ type: 'device', device: { ...goodDevice, problem: isBroken ? null : { code: 'gpu-lost', message: '' } } });
  }

  #answer(random: Random): void {
    if (this.#answers.length === 0) return this.#send({ type: 'tick' });
    for (let count = 1 + random.below(3); count > 0 && this.#answers.length > 0; count -= 1) this.#answerNext(random);
  }

  #answerNext(random: Random): void {
    const { from } = random.pick(this.#answers);
    const [answer] = this.#answers.splice(this.#answers.findIndex((each) => each.from === from), 1);
    if (answer !== undefined) this.#send(answer.event(random));
  }

  #forget(debtor: Debtor): void {
    this.#answers = this.#answers.filter(({ from }) => from !== debtor);
  }

  #blob(header: MachineBlob): MemberEvent {
    this.#refs += 1;
    const ref = `ref-${this.#refs}` as BlobRef;
    this.#held.add(ref);
    return { type: 'blob', header, ref, bytes: pieceBytes };
  }

  #send(event: MemberEvent): void {
    if (event.type === 'connected') this.#isConnected = true;
    if (event.type === 'disconnected') this.#hungUp();
    if (event.type === 'device' && event.device.problem !== null) {
      this.#forget('trainer');
      this.#trainerStep = null;
      this.#isLoading = false;
      this.#isComputing = false;
    }
    const before = this.#member.state;
    this.#member.send(event);
    this.#carryOut(this.#member.effects);
    checkState(before, this.#member.state, this.#held);
  }

  #hungUp(): void {
    this.#isConnected = false;
    this.#forget('connection');
  }

  #carryOut(effects: readonly MemberEffect[]): void {
    for (const effect of effects) {
      if ('ref' in effect) expectTrue(this.#held.delete(effect.ref), 'bytes are used that are not there any more');
      if (effect.type === 'applyUpdate' && effect.followed !== null) expectTrue(this.#held.delete(effect.followed.ref), 'a gradient is used that is not there any more');
      this.#answers.push(...this.#answersTo(effect));
    }
  }

  #answersTo(effect: MemberEffect): readonly Answer[] {
    const owed = (from: Debtor, event: Answer['event']): Answer => ({ from, event });
    switch (effect.type) {
      case 'lookUp':
        return [owed('directory', (random) => this.#found(random))];
      case 'connect': {
        expectTrue(!this.#isConnected, 'a second connection is made');
        const { coordinator } = effect;
        const failed: MemberEvent = { type: 'connectFailed', problem: { code: 'ice-failed', message: '' } };
        return [owed('connection', (random) => (random.chance(0.2) ? failed : { type: 'connected', coordinator }))];
      }
      case 'disconnect':
        this.#hungUp();
        return [];
      case 'send':
        expectSendable(memberMessageSchema, effect.message);
        expectTrue(this.#isConnected, `${effect.message.type} goes to nobody`);
        return this.#replies(effect.message);
      case 'prepare':
        this.#trainerStep = null;
        return [];
      case 'loadReplica': {
        const { step: at } = effect;
        return [this.#load(() => ({ type: 'replicaLoaded', step: at, hash: hashAt(at) }), at, at)];
      }
      case 'applyUpdate': {
        const { step: at } = effect;
        expectTrue(this.#trainerStep === at, `the update of step ${at} for weights of step ${this.#trainerStep ?? 'none'}`);
        return [this.#load(() => ({ type: 'updateApplied', step: at, hash: hashAt(at + 1) }), at, at + 1)];
      }
      case 'compute': {
        const { assignment, step: at } = effect;
        expectTrue(!this.#isComputing && !this.#isLoading, 'the trainer is busy');
        expectTrue(this.#trainerStep === at, `work of step ${at} with weights of step ${this.#trainerStep ?? 'none'}`);
        this.#isComputing = true;
        return [
          owed('trainer', (random) => {
            this.#isComputing = false;
            const lossSum = random.chance(0.1) ? Number.NaN : 4;
            return { type: 'computed', assignment, step: at, lossSum, weightSum: 2, computeMs: 5, tokens: 10, failed: random.chance(0.1) };
          }),
        ];
      }
      case 'follow':
        expectTrue(this.#trainerStep === effect.step, `it follows from step ${effect.step} with weights of step ${this.#trainerStep ?? 'none'}`);
        return [];
      case 'completeSuccession': {
        const { step: at } = effect;
        return [owed('trainer', (random) => ({ type: 'successionCompleted', step: at, problem: random.chance(0.2) ? 'no memory' : null }))];
      }
      case 'takeOver':
        return [owed('directory', (random) => this.#claimed(random, effect.claim.term))];
      case 'readHistory': {
        const { ref, points, endStep } = effect;
        if (points > mostPoints || points > endStep) return [owed('connection', () => ({ type: 'disconnected', reason: 'not the history' }))];
        const figures = { loss: 2, gradNorm: 1, lr: 0.1, ms: 5, tokens: 10, bytesDown: 0, bytesUp: 0 };
        const read = Array.from({ length: points }, (_, index) => ({ step: step(endStep - points + index), ...figures }));
        return [owed('connection', () => ({ type: 'historyRead', ref, points: read }))];
      }
      case 'sendContribution':
        expectSendable(memberBlobSchema, effect.header);
        expectTrue(this.#isConnected, 'a contribution goes to nobody');
        return [];
      default:
        return [];
    }
  }

  /** What an honest coordinator says to a hello and to whoever has lost its weights. */
  #replies(message: MemberMessage): readonly Answer[] {
    if (message.type !== 'hello' && message.type !== 'refetch') return [];
    const at = step(firstStep);
    const replica: Answer = { from: 'connection', event: () => this.#blob(replicaOffer(term(this.#term), at)) };
    if (message.type === 'refetch') return [replica];
    const of = { term: term(this.#term), you: peer('bob'), step: at, steps: 100, phase: 'running', startedAtMs: 0, replica: 'coming', run: '{}', rules: noRules } as const;
    return [
      { from: 'connection', event: (random) => ({ type: 'message', message: { type: 'welcome', ...of, historyPoints: random.below(firstStep) } }) },
      replica,
    ];
  }

  #found(random: Random): MemberEvent {
    if (random.chance(0.1)) return { type: 'directoryUnreachable' };
    if (random.chance(0.1)) return { type: 'directory', lead: null };
    if (random.chance(0.1)) this.#term += 1;
    return { type: 'directory', lead: this.#lead(random) };
  }

  #lead(random: Random): DirectoryLead {
    return { coordinator: peer('ada'), term: term(this.#term), isHeld: !random.chance(0.2), hasSuccessor: random.chance(0.5) };
  }

  #claimed(random: Random, known: number): MemberEvent {
    if (random.chance(0.1)) return { type: 'directoryUnreachable' };
    if (random.chance(0.2)) return { type: 'leadTaken', term: term(known + 1) };
    return { type: 'leadRefused', lead: random.chance(0.5) ? null : this.#lead(random) };
  }

  #load(done: () => MemberEvent, at: number, leadsTo: number): Answer {
    expectTrue(!this.#isLoading, 'weights are loaded while others are');
    this.#isLoading = true;
    this.#trainerStep = null;
    return {
      from: 'trainer',
      event: (random) => {
        this.#isLoading = false;
        if (random.chance(0.1)) return { type: 'replicaFailed', step: step(at), reason: '' };
        this.#trainerStep = leadsTo;
        return done();
      },
    };
  }
}

/** What holds after every event, whatever was sent. */
function checkState(before: MemberState, state: MemberState, held: ReadonlySet<BlobRef>): void {
  const { blobs, assignments, earlyHistory, room, cancelled, succession } = state;
  const alone = [earlyHistory, succession?.gradient ?? null].filter((each) => each !== null);
  const kept = [...blobs, ...assignments, ...alone].map(({ ref }) => ref);
  expectTrue(kept.length === held.size && kept.every((ref) => held.has(ref)), 'bytes are neither kept nor let go');
  expectTrue(blobs.length + assignments.length <= maxQueuedBlobs, 'too many blobs wait');
  expectTrue(cancelled.length <= maxRememberedCancels, 'too many cancels are remembered');
  expectTrue((room?.awaited?.validations.length ?? 0) <= maxRememberedValidations, 'too many validations are remembered');
  const isForgiven = before.staleSinceMs !== null && state.staleSinceMs === null;
  expectTrue(isForgiven || (state.highestTerm ?? -1) >= (before.highestTerm ?? -1), 'a term that was seen is forgotten');
  const points = [...(room?.history ?? []), ...(room?.awaited?.since ?? [])];
  expectTrue(points.every((point, index) => index === 0 || point.step > (points[index - 1]?.step ?? -1)), 'the history is out of order');
  expectTrue(memberView(state).connection === state.phase, 'the view is of another state');
}

/** After which a member comes back no more. */
function isFarewell(message: CoordinatorMessage): boolean {
  return message.type === 'refused' || (message.type === 'rules' && message.rules.isClosed);
}
