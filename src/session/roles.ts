/**
 * Which part this page plays in its room: it leads, or is a member, and changes from one to the other when the lead or the GPU
 * is lost. What a stay in a room is made of is `visit.ts`, how the lead is taken `lead.ts`, what the page shows `shown.ts`;
 * effects are carried out by the two drivers.
 */
import { openPieceCache } from '../checkpoint/piece-cache.ts';
import { parameterCount } from '../model/parameters.ts';
import { handOffExpectedMs } from '../room/limits.ts';
import type { Presence, Step } from '../room/messages.ts';
import { problems as roomProblems } from '../room/problems.ts';
import { noRules } from '../room/rules.ts';
import type { SignedCommand } from '../room/rules.ts';
import { problems as trainerProblems } from '../trainer/errors.ts';
import type { DeviceReport, Problem } from '../trainer/types.ts';
import { Attention } from './attention.ts';
import { ConnectionWatch } from './connections.ts';
import { holderHash } from './directory-client.ts';
import { TrainingClock } from './figures.ts';
import { keepCorpus } from '../trainer/keep-corpus.ts';
import { Gpu } from './gpu.ts';
import type { LeadDriver } from './lead-driver.ts';
import { beginReign, claimLead, firstTerm, keepLease, leadLock, recordOf, restoreRun, startNewRoom } from './lead.ts';
import type { Around, ReignStart, RunData } from './lead.ts';
import type { GrantedLead, LeaseKeeper } from './lease.ts';
import type { RoomAddress } from './link.ts';
import { MemberDriver } from './member-driver.ts';
import type { Heir } from './heir.ts';
import { holderOf, rememberTab } from './memory.ts';
import { ownerOf } from './owner.ts';
import { Ownership } from './ownership.ts';
import { RoomNews } from './news.ts';
import { peerDevice, watchingDevice } from './peer-device.ts';
import { explain, problem as describeProblem, problemOf } from './problems.ts';
import { heritage, parseRules } from './rules.ts';
import { parseRun } from './run.ts';
import type { RunDescription } from './run.ts';
import { shownState } from './shown.ts';
import type { RoleView } from './shown.ts';
import { StateStore } from './state.ts';
import { Visit } from './visit.ts';


/** As long as last words may take to arrive. */
const farewellMs = 1_000;

type Role =
  | { readonly kind: 'lead'; readonly driver: LeadDriver; readonly lease: LeaseKeeper; readonly unlock: () => void }
  | { readonly kind: 'member'; readonly driver: MemberDriver };

/** Thrown where a problem has been put into the state already, so that callers stop. */
export class SessionError extends Error {
  override readonly name = 'SessionError';
  readonly problem: Problem;
  constructor(problem: Problem) {
    super(problem.message);
    this.problem = problem;
  }
}

export class Roles {
  readonly #store: StateStore;
  readonly #gpu: Gpu;
  readonly #clock = new TrainingClock();
  readonly #connections = new ConnectionWatch(() => performance.now());
  #news = new RoomNews();
  #role: Role | null = null;
  #visit: Visit | null = null;
  #run: RunDescription | null = null;
  readonly #attention = new Attention((presence) => {
    this.#presenceChanged(presence);
  });
  /** Of the room that this page leads, or is about to. */
  #lease: LeaseKeeper | null = null;
  /** What both drivers tell. */
  readonly #told = {
    changed: () => {
      this.#refresh();
    },
    problem: (problem: Problem | null) => {
      this.#store.update({ problem });
    },
    notice: (text: string) => {
      this.#store.notice(text);
    },
    declined: (answer: Parameters<Ownership['declined']>[0]) => {
      this.#ownership?.declined(answer);
    },
  };
  /** Of the room that this page is in, or was in last. */
  #ownership: Ownership | null = null;

  constructor(store: StateStore, gpu: Gpu) {
    this.#store = store;
    this.#gpu = gpu;
  }

  get isInRoom(): boolean {
    return this.#role !== null;
  }

  get visit(): Visit | null {
    return this.#visit;
  }

  /** Of the room that this page is in, or was in last; null before it is known. */
  get run(): RunDescription | null {
    return this.#run;
  }

  get ownership(): Ownership | null {
    return this.#ownership;
  }

  async checkDevice(): Promise<DeviceReport> {
    const device = await this.#gpu.check();
    this.#store.update({ device });
    return device;
  }

  /** Puts what goes wrong into the state, and tells the caller too. */
  async guarded<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      const problem = problemOf(error);
      const isInRoom = this.#role !== null;
      this.#store.update(isInRoom ? { problem } : { problem, phase: 'idle', role: 'none' });
      if (!isInRoom) this.#endVisit();
      throw new SessionError(problem);
    }
  }

  #enter(address: RoomAddress, name: string, role: 'coordinator' | 'member' | 'watcher'): Visit {
    if (this.#ownership?.room !== address.room) {
      this.#news = new RoomNews();
      this.#endOwnership();
      this.#ownership = this.#ownershipOf(address.room);
    }
    this.#endVisit();
    this.#visit = new Visit({
      address,
      name,
      role,
      store: this.#store,
      accept: (connection) => this.#role?.driver.accept(connection) ?? null,
      signallingLost: () => {
        this.#lease?.socketClosed();
      },
      tick: () => {
        this.#tick();
      },
    });
    return this.#visit;
  }

  async leadNew(address: RoomAddress, data: RunData, name: string): Promise<{ link: string }> {
    const unlock = (await leadLock(address.room)) ?? (() => undefined); // Nobody else can know a room that was just made up.
    try {
      const visit = this.#enter(address, name, 'coordinator');
      this.#store.update({ phase: 'preparing' });
      this.#showRun(visit, data.description);
      await this.#reign(visit, { term: firstTerm, wasForgotten: false }, unlock, async (around) => ({ data, start: await startNewRoom(data, around) }));
      return { link: visit.link };
    } catch (error) {
      unlock();
      throw error;
    }
  }

  /** From here on this page leads. `data`: what it leads, once the trainer is there; the lease is kept meanwhile. */
  async #reign(visit: Visit, granted: GrantedLead, unlock: () => void, ground: (around: Around) => Promise<{ readonly data: RunData; readonly start: ReignStart }>): Promise<void> {
    const around = { gpu: this.#gpu, store: this.#store, visit };
    const led: { driver: LeadDriver | null; isDeposed: boolean } = { driver: null, isDeposed: false };
    const lease = await keepLease(granted, around, {
      named: (hash) => led.driver?.dispatch({ type: 'successorNamed', holderHash: hash }),
      heldUntil: (untilMs) => led.driver?.dispatch({ type: 'lease', untilMs }),
      deposed: () => {
        led.isDeposed = true;
        void this.#stepDown();
      },
    });
    this.#lease = lease;
    try {
      const { data, start } = await ground(around);
      const device = await this.checkDevice();
      if (visit.isOver || led.isDeposed) throw new SessionError(describeProblem('left', 'The room was left while it was being prepared.'));
      const { trainer, storage } = this.#gpu;
      const checkpointSaved = (step: number): void => {
        this.#store.update({ lastCheckpoint: { step, savedAtMs: Date.now() } });
      };
      led.driver = await beginReign(data, start, lease, device, around, { ...this.#told, trainer, storage, checkpointSaved, handOver: () => void this.#handOver(visit), closeRoom: () => void this.#closeRoom() });
      this.#role = { kind: 'lead', driver: led.driver, lease, unlock };
      rememberTab({ room: visit.address.room, role: 'coordinator', name: this.#store.state.name });
      this.#watchGpu(visit);
      this.#refresh();
    } catch (error) {
      this.#lease = null;
      await lease.release();
      throw error;
    }
  }

  /** The directory gave this page the lead: it goes on where its predecessor was, or where this browser last saved. */
  async #succeed(visit: Visit, granted: GrantedLead, warm: Parameters<Heir['leads']>[1], unlock: () => void): Promise<void> {
    const member = this.#role;
    if (member?.kind !== 'member' || visit.isOver) {
      unlock();
      return;
    }
    const { name } = this.#store.state;
    member.driver.close('it leads the room now');
    try {
      await this.#reign(visit, granted, unlock, async (around) => {
        if (warm !== null) return { data: { description: parseRun(warm.reign.run), corpus: warm.corpus }, start: { ...warm.reign, hasHeirs: true } };
        const restored = await restoreRun(around);
        this.#showRun(visit, restored.data.description);
        return restored;
      });
      this.#store.update({ problem: null });
    } catch (error) {
      unlock();
      if (visit.isOver) return;
      // A lost GPU is opened again; whatever else was wrong would be so again, so this page won't try to lead any more.
      const isGpuLost = problemOf(error).code === trainerProblems.gpuLost('').code;
      if (isGpuLost) await this.#gpu.restart();
      await this.joinAsMember(visit.address, name, false, { canLead: isGpuLost });
      throw error;
    }
  }

  #heirOf(visit: Visit, name: string): Heir {
    const { storage } = this.#gpu;
    const { room } = visit.address;
    let unlock = (): void => undefined;
    let wasForgotten = false;
    return {
      keepRun: async (description, corpus) => {
        // Whoever was a successor of this room before has its corpus.
        const known = await storage.loadRun(room);
        const corpusName = typeof known?.corpus === 'string' ? known.corpus : await keepCorpus(storage, corpus);
        await storage.saveRun(recordOf(visit.address, description, corpusName, name, this.#role?.driver.view.rules ?? noRules));
      },
      saveCheckpoint: (facts) => storage.saveCheckpoint({ ...facts, room }),
      claim: async (claim) => {
        const claimed = await claimLead(claim, visit);
        ({ unlock } = claimed);
        wasForgotten = claim.isForgotten;
        return claimed.outcome;
      },
      leads: (term, warm) => {
        void this.guarded(() => this.#succeed(visit, { term, wasForgotten }, warm, unlock)).catch(() => undefined); // It is in the state.
      },
    };
  }

  async joinAsMember(address: RoomAddress, name: string, watch: boolean, { canLead = true, yields = false } = {}): Promise<{ link: string }> {
    const visit = this.#enter(address, name, watch ? 'watcher' : 'member');
    const { link } = visit;
    this.#store.update({ phase: watch ? 'finding-room' : 'checking-device' });
    const device = watch ? watchingDevice : await this.checkDevice();
    const canCompute = !watch && device.problem === null;
    // Storage that is denied or damaged only means that this page can't bring a room back.
    const progress = canCompute && canLead ? await this.#gpu.storage.progress(address.room).catch(() => null) : null;
    const holder = await holderHash(await holderOf(address.room));
    const isOwner = (await ownerOf(address.room)) !== null;
    const { keys } = parseRules(progress?.rules);
    if (keys?.current === address.key) visit.useKeys(keys);
    const saved = heritage(progress, { holderHash: holder, isOwner });
    if (visit.isOver) return { link };
    const driver = new MemberDriver({
      ...this.#told,
      config: {
        name,
        wantsToWatch: watch,
        device: peerDevice(device),
        holderHash: holder,
        canSucceed: canCompute && canLead,
        saved: yields ? null : saved,
        seed: crypto.getRandomValues(new Uint32Array(1))[0] ?? 0,
      },
      heir: this.#heirOf(visit, name),
      ownId: () => visit.signalling.id,
      directory: visit.directory,
      endpoint: () => visit.signalling.endpoint(),
      trainer: canCompute ? this.#gpu.trainer : null,
      pieces: openPieceCache(),
      nowMs: () => performance.now(),
      run: (description) => {
        this.#showRun(visit, description, canCompute);
      },
    });
    this.#role = { kind: 'member', driver };
    driver.dispatch({ type: 'presence', presence: this.#attention.presence });
    if (yields && saved !== null) setTimeout(() => driver.dispatch({ type: 'saved', saved }), handOffExpectedMs);
    if (canCompute) this.#watchGpu(visit);
    this.#refresh();
    return { link };
  }

  #showRun(visit: Visit, description: RunDescription, canSample = true): void {
    const { settings, title, prompt, tokenizerKind } = description;
    this.#run = description;
    this.#store.update({
      title,
      settings,
      isByCharacter: tokenizerKind === 'characters',
      steps: settings.steps,
      parameterCount: parameterCount(settings.model),
      expectedInitialLoss: Math.log(settings.model.vocab_size),
      validationBytesPerToken: description.validationBytesPerToken,
    });
    void this.#ownership?.learn(description);
    if (!canSample) return;
    visit.startSampling(description, () => this.#gpu.trainer, ({ step, text, temperature }) => {
      if (visit.isOver) return;
      this.#store.update({ sample: { step, prompt, text, temperature, own: true } });
      if (this.#role?.kind === 'lead') this.#role.driver.sampled(step as Step, text);
    });
  }

  #watchGpu(visit: Visit): void {
    this.#gpu.whenLost((reason) => {
      if (visit.isOver || this.#role === null) return;
      this.#store.notice('The GPU was lost; opening it again.');
      this.#store.update({ problem: reason });
      void this.guarded(() => this.#recoverGpu(visit)).catch(() => undefined); // It is in the state.
    });
  }

  async #recoverGpu(visit: Visit): Promise<void> {
    const role = this.#role;
    if (role === null) return;
    if (role.kind === 'member') {
      role.driver.dispatch({ type: 'device', device: peerDevice({ ...(await this.#gpu.restart()), problem: trainerProblems.gpuLost('') }) });
      const device = await this.checkDevice();
      role.driver.replaceTrainer(this.#gpu.trainer, peerDevice(device));
      if (device.problem === null) {
        this.#store.update({ problem: null });
        this.#watchGpu(visit);
      }
      return;
    }
    // Weights and moments went with the GPU: whoever kept them leads, or this page again from its newest checkpoint.
    const { name } = this.#store.state;
    await role.lease.release();
    await this.#abandonLead(role);
    await this.#gpu.restart();
    await this.joinAsMember(visit.address, name, false);
    this.#store.update({ problem: null });
  }

  async #abandonLead(role: Extract<Role, { kind: 'lead' }>): Promise<void> {
    if (this.#role === role) {
      this.#role = null;
      this.#lease = null;
    }
    await role.driver.close('the coordinator starts again');
    role.unlock();
  }

  /** Somebody else leads with a higher term, or is about to (`yields`: it has every step): go on as one of its members. */
  async #stepDown(yields = false): Promise<void> {
    const role = this.#role;
    const visit = this.#visit;
    if (role?.kind !== 'lead' || visit === null) return;
    const { name } = this.#store.state;
    await this.#abandonLead(role);
    if (visit.isOver) return;
    await this.guarded(() => this.joinAsMember(visit.address, name, false, { yields })).catch(() => undefined); // It is in the state.
  }

  #ownershipOf(room: string): Ownership {
    const send = (signed: SignedCommand): void => {
      const role = this.#role;
      if (role?.kind === 'member') role.driver.dispatch({ type: 'ownerCommand', signed });
      else if (role?.kind === 'lead') void role.driver.ownOrder(signed);
    };
    return new Ownership({ room, store: this.#store, storage: () => this.#gpu.storage, send, useKeys: (keys) => this.#visit?.useKeys(keys), nowMs: () => performance.now() });
  }

  /** The owner wants the successor to lead: this page gives it the lead, and does not ask for it again while it takes over. */
  async #handOver(visit: Visit): Promise<void> {
    const role = this.#role;
    if (role?.kind !== 'lead' || visit.isOver) return;
    const { name } = this.#store.state;
    void role.driver.saveCheckpoint();
    await role.lease.release();
    await this.#abandonLead(role);
    if (visit.isOver) return;
    await this.guarded(() => this.joinAsMember(visit.address, name, false, { yields: true })).catch(() => undefined); // It is in the state.
  }

  /** The owner closed the room, and this page led it: everybody has heard of it, and nobody is to follow. */
  async #closeRoom(): Promise<void> {
    const role = this.#role;
    const visit = this.#visit;
    if (role?.kind !== 'lead' || visit === null) return;
    const { view } = role.driver;
    this.#role = null;
    rememberTab(null);
    this.#store.update({ phase: 'stopped', problem: explain(roomProblems.roomClosed(view.rules.latest?.by ?? '')), peers: [], connections: [] });
    this.#ownership?.observe(view);
    await role.driver.saveCheckpoint();
    await role.lease.release();
    await pause(farewellMs);
    await role.driver.close('the owner closed the room');
    role.unlock();
    if (visit.isOver) return; // Another room was entered meanwhile.
    this.#endVisit();
    this.#endOwnership();
  }

  command(command: 'pause' | 'resume'): void {
    if (this.#role?.kind === 'lead') this.#role.driver.dispatch({ type: 'command', command });
    else this.#role?.driver.dispatch({ type: 'command', command });
  }

  #tick(): void {
    const role = this.#role;
    if (role === null) return;
    const nowMs = performance.now();
    this.#attention.tick(nowMs);
    role.driver.dispatch({ type: 'tick' });
    this.#lease?.tick();
    this.#ownership?.tick();
    const connections = this.#connections.rows(role.driver.connections);
    if (connections !== this.#store.state.connections) {
      this.#store.update({ connections });
      if (role.kind === 'lead') role.driver.dispatch({ type: 'ways', ways: connections });
    }
    const { view } = role.driver;
    const replicaStep = role.kind === 'lead' ? view.step : role.driver.view.replica?.step;
    const canSample = role.kind === 'lead' || (replicaStep !== undefined && view.role === 'member');
    if (canSample !== this.#store.state.canGenerate) this.#store.update({ canGenerate: canSample });
    if (canSample && replicaStep !== undefined && replicaStep > 0) {
      this.#visit?.sampler?.tick(this.#gpu.trainer, replicaStep, this.#store.state.sampleTemperature, nowMs);
    }
    this.#refresh();
  }

  #presenceChanged(presence: Presence): void {
    const role = this.#role;
    if (role === null) return;
    if (role.kind === 'member') {
      role.driver.dispatch({ type: 'presence', presence });
      if (presence.rest === 'battery') this.#store.notice('The battery is low: this page leaves the work to the others until it charges.');
    } else if (role.lease.isReleased) {
      // It stood still meanwhile: somebody else leads.
      void this.#stepDown();
    } else if ((presence.rest === 'frozen' || presence.rest === 'hidden') && isFollowed(role.driver)) {
      // Nothing may run here any more in a moment: whoever is ready leads at once.
      const released = role.lease.release();
      if (presence.rest === 'hidden') void released.then(() => this.#stepDown(true));
    }
  }

  /** Brings the state up to date with the machine. */
  #refresh(): void {
    const role = this.#role;
    if (role === null) return;
    const { state } = this.#store;
    const shown = viewOf(role);
    if (shown.view.term > 0) this.#ownership?.observe(shown.view);
    for (const text of this.#news.observe(shown.view, performance.now(), state.settings)) this.#store.notice(text);
    this.#store.update(shownState(shown, state, (history) => this.#clock.elapsedMs(history)));
  }

  /** The page is going away: whoever is left should know at once. */
  sayGoodbye(): void {
    const role = this.#role;
    if (role?.kind === 'member') return role.driver.dispatch({ type: 'command', command: 'leave' });
    void this.#lease?.release();
    // Before the connections are closed one after another: who is still there would be told that the first are gone.
    void role?.driver.close('the tab was closed');
  }

  #endOwnership(): void {
    this.#ownership?.close();
    this.#ownership = null;
  }

  #endVisit(): void {
    this.#lease = null;
    this.#visit?.end();
    this.#visit = null;
  }

  async leave(): Promise<void> {
    const role = this.#role;
    if (role === null) return;
    this.#role = null;
    rememberTab(null);
    history.replaceState(null, '', location.pathname + location.search);
    if (role.kind === 'lead') {
      // Whoever follows takes over at once; where nobody can, the room waits for this page.
      if (!isFollowed(role.driver)) role.driver.dispatch({ type: 'command', command: 'stop' });
      await role.driver.saveCheckpoint();
      await role.lease.release();
      await role.driver.close('the coordinator left');
      role.unlock();
    } else {
      await role.driver.leave();
    }
    this.#endVisit();
    this.#endOwnership();
    this.#store.update({ phase: 'left', problem: null, peers: [], connections: [], link: null, inviteLink: null });
  }

  /** In case that this page is not there for long: nothing of what it leads is to be lost. */
  saveCheckpoint(): void {
    if (this.#role?.kind === 'lead') void this.#role.driver.saveCheckpoint();
  }
}

function pause(durationMs: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, durationMs));
}

/** Somebody has everything and would lead at once. */
function isFollowed({ view }: LeadDriver): boolean {
  return view.peers.some(({ succession }) => succession === 'ready');
}

function viewOf(role: Role): RoleView {
  return role.kind === 'lead' ? { kind: 'lead', view: role.driver.view } : { kind: 'member', view: role.driver.view };
}
