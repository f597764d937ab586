/**
 * The shape of the room's two state machines: what goes in and what comes out. `coordinator.ts` and `member.ts`
 * implement (state, event, nowMs) → (state, effects). No timers, sockets, GPU or randomness here: the session
 * carries effects out and feeds what happens back as events; the simulator does the same under a virtual clock.
 */
import type {
  CoordinatorBlob,
  CoordinatorMessage,
  GonePeer,
  HistoryPoint,
  MemberBlob,
  MemberMessage,
  PaceRow,
  PeerDevice,
  PeerId,
  PeerRow,
  Presence,
  RoomPhase,
  SentAsRow,
  Step,
  Term,
} from './messages.ts';
import type { DatedChange, OwnerCommand, RoomRules, SignedCommand } from './rules.ts';
import type { RoomCodec } from './values.ts';

/** Names the bytes of a received blob, which the driver keeps until an effect uses or discards them. */
export type BlobRef = string & { readonly __brand: 'BlobRef' };

/** Named by the machines (problems.ts), or by whoever could not carry out an effect. */
export interface RoomProblem {
  readonly code: string;
  readonly message: string;
  /** From those who know; for what the machines name, the page does. */
  readonly whatToDo?: string;
}

/** Of the connection to a peer. */
export interface Way {
  readonly peer: PeerId;
  readonly path: 'direct' | 'relayed' | null;
  readonly roundTripMs: number | null;
}

export interface StepMetrics {
  readonly gradNorm: number;
  readonly learningRate: number;
  readonly replicaHash: string;
  /** False: loss or gradient was not finite and nothing was applied; the room pauses. */
  readonly applied: boolean;
  /** Bytes of the encoded update. */
  readonly updateBytes: number;
  /** Bytes of the encoded gradient for the successor; 0 when none was asked for. */
  readonly gradientBytes: number;
}

export interface CoordinatorConfig {
  readonly self: PeerId;
  /** As in a hello: another tab of this very browser is no successor, since both would be gone at once. */
  readonly holderHash: string;
  readonly name: string;
  readonly term: Term;
  /** Serialized run settings, sent with every welcome. */
  readonly run: string;
  readonly steps: number;
  readonly microbatchesPerStep: number;
  readonly tokensPerMicrobatch: number;
  /** Between which the room may choose, from the most exact down; none: it is the run's. */
  readonly codecs: readonly RoomCodec[];
  /** What a reign goes on from; null: nothing is known. */
  readonly sentAs: SentAsRow | null;
  /** Whose learning rates follow the schedule as an assignment tells it. */
  readonly hasLocalSteps: boolean;
  /** Sum of the loss weights of a micro-batch: a pure function of the run. What a peer claims is checked against it. */
  readonly weightOfMicrobatch: (step: Step, microbatch: number) => number;
  /** Its `problem` is set when this peer can't compute (it still coordinates). */
  readonly selfDevice: PeerDevice;
  /** The replica is so large that others help to bring it to newcomers. */
  readonly sharesReplica: boolean;
  /** With so many members that could, updates go through some of them to the others; null: never. */
  readonly relaysFrom: number | null;
  readonly evalEvery: number;
  /** Sum of the loss weights of each micro-batch that is held out; none: nothing is evaluated. */
  readonly validationWeights: readonly number[];
  /** Evaluations in a row without a lower loss after which the room pauses; 0: however many. */
  readonly patience: number;
  readonly checkpointEveryMs: number;
  readonly checkpointEverySteps: number;
  /** Where a restored run goes on; 0 and [] for a new one. */
  readonly startStep: Step;
  /** Hash of the replica after `startStep` updates, as the trainer's `initialize` or `restore` gave it. */
  readonly startHash: string;
  readonly history: readonly HistoryPoint[];
  readonly rules: RoomRules;
  readonly startedAtMs: number;
  readonly startPaused: boolean;
  /** Other peers may have kept a state of this run from before this reign. */
  readonly hasHeirs: boolean;
  /** As in the event `lease`. */
  readonly leaseUntilMs: number;
}

/**
 * The driver's duties: `tick` at least once a second (four times is better); at most one connection per peer, nothing of
 * an earlier connection after a later one's `peerOpened`; trainer calls in the order of the effects; every `addBlob` and
 * `addOwn` is answered by `contributionAdded` or `contributionRejected`, every `commit` by `committed` (when the master
 * state is lost instead, a new reign starts from a checkpoint); an `offerReplica` or `sendUpdate` that can't be carried out
 * (of a step long ago, perhaps), though the peer is there, by `weightsNotSent`;
 * every `nameSuccessor` by `successorNamed` once the directory has confirmed it, however long that takes, unless a newer one
 * replaced it.
 */
export type CoordinatorEvent =
  | { readonly type: 'tick' }
  /** A channel to this peer is open and the key is proved. */
  | { readonly type: 'peerOpened'; readonly peer: PeerId }
  | { readonly type: 'peerClosed'; readonly peer: PeerId; readonly reason: string }
  | { readonly type: 'message'; readonly from: PeerId; readonly message: MemberMessage }
  /** A blob arrived whole. `bytes` is its size, for the accounts. */
  | { readonly type: 'blob'; readonly from: PeerId; readonly header: MemberBlob; readonly ref: BlobRef; readonly bytes: number }
  /** This peer's own assignment is done (its sums are on the GPU) or was given up. */
  | {
      readonly type: 'ownResult';
      readonly assignment: string;
      readonly step: Step;
      readonly lossSum: number;
      readonly weightSum: number;
      readonly computeMs: number;
      readonly tokens: number;
      readonly failed: boolean;
    }
  /** The owner's, and not only said to be: `from` is this peer itself or whoever sent it. */
  | { readonly type: 'ownerCommand'; readonly from: PeerId; readonly order: string; readonly revision: number; readonly command: OwnerCommand }
  /** The trainer refused a contribution that was to be accumulated (mis-sized, non-finite). */
  | { readonly type: 'contributionRejected'; readonly assignment: string; readonly reason: string }
  | { readonly type: 'contributionAdded'; readonly assignment: string }
  | { readonly type: 'committed'; readonly step: Step; readonly metrics: StepMetrics }
  /** What this peer was to hold could not be read from the trainer. */
  | { readonly type: 'weightsNotSent'; readonly peer: PeerId; readonly reason: string }
  /** The directory names this one, or nobody, as whoever may take the lead over. */
  | { readonly type: 'successorNamed'; readonly holderHash: string | null }
  /** Until when, by this peer's own clock, nobody else can have taken the lead: it changes with every renewal. */
  | { readonly type: 'lease'; readonly untilMs: number }
  /** What a successor needs to begin could not be read. */
  | { readonly type: 'notAppointed'; readonly peer: PeerId; readonly reason: string }
  /** What is known of the ways to the peers; those not named keep what was known. */
  | { readonly type: 'ways'; readonly ways: readonly Way[] }
  /** What `evaluateOwn` came to. `failed`: to nothing. */
  | { readonly type: 'evaluatedOwn'; readonly assignment: string; readonly lossSum: number; readonly weightSum: number; readonly failed: boolean }
  /** Text drawn from the weights, for those who have none to draw from. */
  | { readonly type: 'sampled'; readonly step: Step; readonly text: string }
  | { readonly type: 'command'; readonly command: 'pause' | 'resume' | 'stop' }
  /** This peer's GPU is gone or back. */
  | { readonly type: 'ownDevice'; readonly device: PeerDevice };

export type CoordinatorEffect =
  | { readonly type: 'send'; readonly to: PeerId; readonly message: CoordinatorMessage }
  | { readonly type: 'assign'; readonly to: PeerId; readonly header: Extract<CoordinatorBlob, { kind: 'assignment' }> }
  /** Send exactly this history, whatever is committed meanwhile, before any replica for the same peer. */
  | { readonly type: 'sendHistory'; readonly to: PeerId; readonly history: readonly HistoryPoint[] }
  /** Copy the replica as it is now (after `step` updates), and announce it before any later update is sent. */
  | { readonly type: 'offerReplica'; readonly to: PeerId; readonly step: Step; readonly sources: readonly PeerId[] }
  /** Of the copy of that step. */
  | { readonly type: 'sendPiece'; readonly to: PeerId; readonly step: Step; readonly piece: number }
  /** Send the appointment, then corpus and master state piece by piece: each as it is then, in order with the updates. */
  | { readonly type: 'appoint'; readonly to: PeerId; readonly step: Step; readonly unannounced: HistoryPoint | null }
  /** Ask the directory, again and again until it has confirmed, to let this one (or nobody) take the lead over. */
  | { readonly type: 'nameSuccessor'; readonly holderHash: string | null }
  /** Send the gradient of the last committed step, before its update. */
  | { readonly type: 'sendGradient'; readonly to: PeerId; readonly step: Step; readonly weightSum: number; readonly point: HistoryPoint }
  /**
   * Send the update of a committed step: whole, in pieces to those who `forward` it, and only the hashes of its pieces to those who get it
   * from them. What can't be cut goes whole to all of them.
   */
  | { readonly type: 'sendUpdate'; readonly whole: readonly PeerId[]; readonly forward: readonly PeerId[]; readonly fed: readonly PeerId[]; readonly step: Step }
  | { readonly type: 'beginStep'; readonly step: Step }
  | { readonly type: 'computeOwn'; readonly assignment: string; readonly step: Step; readonly microbatches: readonly number[]; readonly changes: readonly DatedChange[] }
  | { readonly type: 'cancelOwn'; readonly assignment: string }
  | { readonly type: 'addOwn'; readonly assignment: string; readonly step: Step }
  | { readonly type: 'addBlob'; readonly assignment: string; readonly step: Step; readonly ref: BlobRef }
  | { readonly type: 'discardBlob'; readonly ref: BlobRef; readonly reason: string }
  /** Every micro-batch of the step was added exactly once. `encodeUpdate`: somebody else needs it. */
  | {
      readonly type: 'commit';
      readonly step: Step;
      readonly lossSum: number;
      readonly weightSum: number;
      readonly encodeUpdate: boolean;
      /** The successor needs the gradient. */
      readonly encodeGradient: boolean;
      /** Of the run's schedule, up to this step or beyond. */
      readonly changes: readonly DatedChange[];
      /** Of update and gradient; null: the run's. */
      readonly codec: RoomCodec | null;
    }
  /** Sums of losses and loss weights of these held-out micro-batches, with the weights as they are now. */
  | { readonly type: 'evaluateOwn'; readonly assignment: string; readonly microbatches: readonly number[] }
  | { readonly type: 'assignEvaluation'; readonly to: PeerId; readonly header: Extract<CoordinatorBlob, { kind: 'evaluation' }> }
  /** The weights as they are now, after the update of `step`, have the lowest validation loss so far: keep them. */
  | { readonly type: 'keepBest'; readonly step: Step; readonly loss: number }
  | { readonly type: 'checkpoint'; readonly step: Step; readonly reason: 'interval' | 'paused' | 'finished' | 'stopped' }
  /** This peer's own command of this revision was not carried out. */
  | { readonly type: 'declined'; readonly revision: number; readonly code: 'outdated' | 'impossible'; readonly reason: string }
  /** The successor has everything, and is to lead now: give the lease back, and go on as a member. Nothing else comes after it. */
  | { readonly type: 'handOver' }
  /** The owner has closed the room: once the checkpoint is saved, nobody leads it any more. */
  | { readonly type: 'closeRoom' }
  | { readonly type: 'closePeer'; readonly peer: PeerId; readonly reason: string }
  /** Something the session shows: phase, history or peers changed (read them from the state). */
  | { readonly type: 'changed' }
  | { readonly type: 'problem'; readonly problem: RoomProblem };

/** What this browser has saved of the room: it can lead from there when nobody else does. */
export interface SavedState {
  readonly step: Step;
  readonly term: Term;
}

export interface MemberConfig {
  readonly name: string;
  readonly wantsToWatch: boolean;
  readonly device: PeerDevice;
  /** By which the directory would know this peer as successor; public. */
  readonly holderHash: string;
  /** It has what a leader needs: somewhere to save, and memory enough. */
  readonly canSucceed: boolean;
  readonly saved: SavedState | null;
  /** Of the jitter in the pauses between attempts to connect. */
  readonly seed: number;
}

export interface DirectoryLead {
  readonly coordinator: PeerId;
  readonly term: Term;
  /** False: the lease was released or ran out. */
  readonly isHeld: boolean;
  /** Somebody is named who may take over at once. */
  readonly hasSuccessor: boolean;
}

/** What a machine takes of the coordinator's blobs: pieces and their hashes are for whoever puts together what they are pieces of. */
export type MachineBlob = Exclude<CoordinatorBlob, { kind: 'pieceHashes' | 'replicaPiece' | 'updateHashes' | 'updatePiece' }>;

export type ReplicaOffer = Extract<CoordinatorBlob, { kind: 'replica' }>;

export type SuccessionPart = Extract<CoordinatorBlob, { kind: 'piece' }>['part'];
export type MasterPart = Exclude<SuccessionPart, 'corpus'>;

/** For the directory. */
export interface LeadClaim {
  /** The last one known; or, where the directory has forgotten the room, the one to make it anew with. */
  readonly term: Term;
  readonly step: Step;
  readonly isForgotten: boolean;
  /** From the master state that was followed; false: from what this browser has saved. */
  readonly isWarm: boolean;
}

/**
 * The driver's duties: `tick` as for the coordinator; nothing of a connection after its `disconnected` (or after the
 * `disconnect` effect); trainer calls in the order of the effects; every `compute` is answered by `computed`, every `evaluate` by `evaluated`, every
 * `loadReplica` and `applyUpdate` by its event or by `replicaFailed`, unless the `device` is reported lost; every
 * `takeOver` by `leadTaken`, `leadRefused` or `directoryUnreachable`; every `completeSuccession` by its event; every
 * `readHistory` by `historyRead`, or by `disconnected` when the bytes are not what was announced.
 */
export type MemberEvent =
  | { readonly type: 'tick' }
  /** The directory's answer: who leads the room now, if anybody. */
  | { readonly type: 'directory'; readonly lead: DirectoryLead | null }
  /** This peer leads from now on, under this term. */
  | { readonly type: 'leadTaken'; readonly term: Term }
  | { readonly type: 'leadRefused'; readonly lead: DirectoryLead | null }
  /** The master state was saved. */
  | { readonly type: 'saved'; readonly saved: SavedState }
  | { readonly type: 'directoryUnreachable' }
  | { readonly type: 'connected'; readonly coordinator: PeerId }
  /** `isFinal`: trying again can't help (wrong key). */
  | { readonly type: 'connectFailed'; readonly problem: RoomProblem; readonly isFinal?: boolean }
  | { readonly type: 'disconnected'; readonly reason: string }
  | { readonly type: 'message'; readonly message: CoordinatorMessage }
  | { readonly type: 'blob'; readonly header: MachineBlob; readonly ref: BlobRef; readonly bytes: number }
  | { readonly type: 'historyRead'; readonly ref: BlobRef; readonly points: readonly HistoryPoint[] }
  /** All pieces of a succession are put to use (`problem` null), or can't be. */
  | { readonly type: 'successionCompleted'; readonly step: Step; readonly problem: string | null }
  | { readonly type: 'replicaLoaded'; readonly step: Step; readonly hash: string }
  /** `step` as in `applyUpdate`: the replica, whose hash this is, is now at `step + 1`. */
  | { readonly type: 'updateApplied'; readonly step: Step; readonly hash: string }
  /** The trainer refused a replica or an update (mis-sized, damaged): what it holds now is not known. */
  | { readonly type: 'replicaFailed'; readonly step: Step; readonly reason: string }
  | {
      readonly type: 'computed';
      readonly assignment: string;
      readonly step: Step;
      readonly lossSum: number;
      readonly weightSum: number;
      readonly computeMs: number;
      readonly tokens: number;
      readonly failed: boolean;
    }
  /** What `evaluate` came to. */
  | { readonly type: 'evaluated'; readonly assignment: string; readonly lossSum: number; readonly weightSum: number; readonly failed: boolean }
  | { readonly type: 'device'; readonly device: PeerDevice }
  | { readonly type: 'presence'; readonly presence: Presence }
  /** This page is the owner's. */
  | { readonly type: 'ownerCommand'; readonly signed: SignedCommand }
  | { readonly type: 'command'; readonly command: 'pause' | 'resume' | 'leave' };

export interface FollowedStep {
  readonly ref: BlobRef;
  readonly weightSum: number;
  readonly learningRate: number;
}

/** What a successor goes on from; the trainer holds the master state. */
export interface WarmReign {
  readonly step: Step;
  readonly hash: string;
  readonly run: string;
  readonly history: readonly HistoryPoint[];
  readonly rules: RoomRules;
  readonly startedAtMs: number;
  readonly isPaused: boolean;
  readonly sentAs: SentAsRow | null;
}

export type MemberEffect =
  | { readonly type: 'lookUp' }
  | { readonly type: 'connect'; readonly coordinator: PeerId }
  | { readonly type: 'disconnect' }
  | { readonly type: 'send'; readonly message: MemberMessage }
  /** `run` of the welcome, for whoever looks on. Comes before anything else of that run. */
  | { readonly type: 'describe'; readonly run: string }
  /** The same for who computes: plan it (once) before anything is computed. */
  | { readonly type: 'prepare'; readonly run: string }
  /** So many points in the order of their steps, all of which are below `endStep`. */
  | {
      readonly type: 'readHistory';
      readonly ref: BlobRef;
      readonly checksum: string;
      readonly points: number;
      readonly endStep: Step;
    }
  /** Fetch it piece by piece and load it; what is missing when the connection to the coordinator is lost is given up (`replicaFailed`). */
  | { readonly type: 'loadReplica'; readonly step: Step; readonly offer: ReplicaOffer }
  /** Keep a copy for newcomers, who will ask for it. */
  | { readonly type: 'shareReplica'; readonly step: Step }
  /** `followed`: the master state takes the step first, by this gradient. */
  | { readonly type: 'applyUpdate'; readonly step: Step; readonly ref: BlobRef; readonly followed: FollowedStep | null }
  /** Keep a master state from the replica's present step on (it is at `step`), and expect pieces of these parts. */
  | { readonly type: 'follow'; readonly step: Step; readonly masterBytes: number; readonly masterParts: readonly MasterPart[]; readonly corpusBytes: number }
  /** As it is at the replica's present `step`. */
  | { readonly type: 'keepPiece'; readonly step: Step; readonly part: SuccessionPart; readonly offset: number; readonly ref: BlobRef }
  /** Every piece is there: keep run and corpus. */
  | { readonly type: 'completeSuccession'; readonly step: Step }
  /** Pieces and master state are of no use any more. */
  | { readonly type: 'endSuccession' }
  | { readonly type: 'takeOver'; readonly claim: LeadClaim }
  /** Nobody leads any more: what this peer keeps of the master state is worth saving now. */
  | { readonly type: 'save' }
  /** This peer leads now. `reign` null: from what this browser has saved. Nothing else comes after it. */
  | { readonly type: 'lead'; readonly term: Term; readonly reign: WarmReign | null }
  | {
      readonly type: 'compute';
      readonly assignment: string;
      readonly step: Step;
      readonly microbatches: readonly number[];
      readonly changes: readonly DatedChange[];
      readonly ref: BlobRef;
    }
  /** Sums of losses and loss weights of the held-out micro-batches in these bytes, with the weights as they are. */
  | { readonly type: 'evaluate'; readonly assignment: string; readonly microbatches: number; readonly ref: BlobRef }
  | { readonly type: 'cancel'; readonly assignment: string }
  /** Take the last result from the trainer and send it with this header. */
  | { readonly type: 'sendContribution'; readonly header: MemberBlob; readonly codec: RoomCodec | null }
  | { readonly type: 'discardBlob'; readonly ref: BlobRef; readonly reason: string }
  /** This peer's own command of this revision was not carried out. */
  | { readonly type: 'declined'; readonly revision: number; readonly code: 'outdated' | 'impossible'; readonly reason: string }
  | { readonly type: 'changed' }
  | { readonly type: 'problem'; readonly problem: RoomProblem | null };

/** What a page shows of the room, whichever machine it runs. */
export interface RoomView {
  readonly self: PeerId | null;
  readonly role: 'coordinator' | 'member' | 'watcher';
  readonly term: Term;
  /** Updates applied so far, as the coordinator counts them. */
  readonly step: Step;
  readonly steps: number;
  readonly phase: RoomPhase;
  readonly startedAtMs: number;
  /** A new array whenever it changed; points are never mutated. */
  readonly history: readonly HistoryPoint[];
  readonly rules: RoomRules;
  /** Not, where this peer only keeps them for whoever decides. */
  readonly areRulesInForce: boolean;
  readonly peers: readonly PeerRow[];
  /** Who was here a moment ago. */
  readonly gone: readonly GonePeer[];
  /** Where a step's time goes. */
  readonly pace: PaceRow | null;
  /** Null where there is nothing to choose, or nothing known. */
  readonly sentAs: SentAsRow | null;
  readonly problem: RoomProblem | null;
}

export interface CoordinatorView extends RoomView {
  /** Micro-batches wait and nobody who could compute them is here. */
  readonly isWaitingForWorkers: boolean;
  /** A step is done but can't be announced: somebody else could take the lead without it, and the directory does not answer. */
  readonly isWaitingForDirectory: boolean;
}

/**
 * `finding` → `connecting` → `greeting` (hello sent) → `fetching` (replica on its way) → `joined`; `claiming` (the lead) from
 * `finding`; the last three are final.
 */
export type MemberPhase = 'finding' | 'connecting' | 'greeting' | 'fetching' | 'joined' | 'claiming' | 'refused' | 'left' | 'leading';

export interface MemberView extends RoomView {
  readonly connection: MemberPhase;
  /** Welcomed at least once: what is missing now is a re-connection. */
  readonly wasWelcomed: boolean;
  /** The replica that this peer's trainer holds, when it is known to be whole. */
  readonly replica: { readonly step: Step; readonly hash: string } | null;
  /** Newest sample the coordinator sent to those without a replica. */
  readonly sample: { readonly step: Step; readonly text: string } | null;
}
