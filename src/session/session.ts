/**
 * The session of a page: one room at a time, led or joined, on this page's trainer worker. It wires the room's machines
 * to network, worker, clock and store, and tells the page. Effects are carried out by the two drivers.
 */
import { askForPersistence } from '../checkpoint/persistence.ts';
import { CharacterTokenizer } from '../data/character-tokenizer.ts';
import { weightOf } from '../data/batches.ts';
import { parameterCount } from '../model/parameters.ts';
import type { HistoryPoint, PeerDevice, PeerId, Step, Term } from '../room/messages.ts';
import type { RoomView } from '../room/machine.ts';
import { problems as trainerProblems } from '../trainer/errors.ts';
import { startTicker } from '../trainer/ticker.ts';
import type { DeviceReport, Problem } from '../trainer/types.ts';
import { textOf } from './corpus.ts';
import { createDirectoryClient } from './directory-client.ts';
import type { DirectoryClient } from './directory-client.ts';
import { TrainingClock, comingsAndGoings, recentSpeed } from './figures.ts';
import { Gpu } from './gpu.ts';
import { LeadDriver } from './lead-driver.ts';
import { LeaseKeeper } from './lease.ts';
import { newRoomAddress, notALink, parseRoomLink, roomLink } from './link.ts';
import type { RoomAddress } from './link.ts';
import { MemberDriver } from './member-driver.ts';
import { forgetHolder, holderOf, recalledTab, rememberTab } from './memory.ts';
import { WakeLock, titleOf } from './page.ts';
import { problem as describeProblem, problemOf, storageProblemOf } from './problems.ts';
import { batchesOf, composeRun, estimateRun, parseRun, serializeRun, trainerSettings } from './run.ts';
import type { RunDescription } from './run.ts';
import { Sampler } from './sampler.ts';
import { Signalling } from './signalling.ts';
import { StateStore } from './state.ts';
import type { CreateSettings, RunEstimate, SavedRun, SessionController, SessionPhase, SessionState } from './types.ts';

const tickPeriodMs = 250;
/** Little enough to lose, rare enough not to matter: a save reads three times the weights back from the GPU. */
const checkpointEveryMs = 15_000;
const checkpointEverySteps = 50;
const defaultName = 'Guest';

type Role =
  | { readonly kind: 'lead'; readonly driver: LeadDriver; readonly lease: LeaseKeeper; readonly unlock: () => void }
  | { readonly kind: 'member'; readonly driver: MemberDriver };

interface LeadRequest {
  readonly address: RoomAddress;
  readonly description: RunDescription;
  readonly tokens: Uint32Array;
  readonly name: string;
  /** A term this room may have reached; 0 for a new room. */
  readonly lastTerm: number;
  readonly startPaused: boolean;
}

/** Thrown where a problem has been put into the state already, so that callers stop. */
class SessionError extends Error {
  override readonly name = 'SessionError';
  readonly problem: Problem;
  constructor(problem: Problem) {
    super(problem.message);
    this.problem = problem;
  }
}

export function createSession(): SessionController {
  return new Session();
}

class Session implements SessionController {
  readonly #store = new StateStore();
  readonly #gpu = new Gpu();
  readonly #wakeLock = new WakeLock();
  readonly #clock = new TrainingClock();
  #role: Role | null = null;
  #address: RoomAddress | null = null;
  #signalling: Signalling | null = null;
  #sampler: Sampler | null = null;
  #stopTicker: (() => void) | null = null;
  /** Grows whenever a room is entered or left, so that what belongs to an earlier visit is dropped. */
  #visit = 0;

  constructor() {
    this.#store.subscribe((state) => {
      document.title = titleOf(state);
      this.#wakeLock.want(state.phase === 'running' && state.role !== 'watcher');
    });
    document.addEventListener('visibilitychange', () => {
      if (document.visibilityState === 'hidden' && this.#role?.kind === 'lead') void this.#role.driver.saveCheckpoint();
    });
    addEventListener('pagehide', () => {
      this.#sayGoodbye();
    });
    void this.#resumeTab();
  }

  get state(): SessionState {
    return this.#store.state;
  }

  subscribe(listener: (state: SessionState) => void): () => void {
    return this.#store.subscribe(listener);
  }

  async estimate(settings: CreateSettings): Promise<RunEstimate> {
    return estimateRun(settings, await textOf(settings));
  }

  async checkDevice(): Promise<DeviceReport> {
    const device = await this.#gpu.check();
    this.#store.update({ device });
    return device;
  }

  async create(settings: CreateSettings): Promise<{ link: string }> {
    return this.#guarded(async () => {
      await this.leave();
      this.#store.update({ phase: 'checking-device', problem: null });
      const { description, tokens } = composeRun(settings, await textOf(settings));
      await this.#requireGpu();
      const address = newRoomAddress();
      const name = settings.name?.trim() || defaultName;
      await this.#saveRun(address, description, tokens, name);
      return this.#lead({ address, description, tokens, name, lastTerm: 0, startPaused: false });
    });
  }

  async continueRun(room: string): Promise<{ link: string }> {
    return this.#guarded(async () => {
      await this.leave();
      this.#store.update({ phase: 'checking-device', problem: null });
      const run = await this.#gpu.storage.loadRun(room);
      if (run === null) throw new SessionError(describeProblem('run-not-found', 'This browser has no saved run of that name any more.'));
      await this.#requireGpu();
      const address = { room: run.room, key: run.key };
      return this.#lead({ address, description: parseRun(run.run), tokens: run.tokens, name: run.name, lastTerm: 1, startPaused: false });
    });
  }

  async join(link: string, options: { readonly name?: string; readonly watch?: boolean } = {}): Promise<void> {
    await this.#guarded(async () => {
      const address = parseRoomLink(link);
      if (address === null) throw new SessionError(notALink);
      if ('code' in address) throw new SessionError(address);
      await this.leave();
      const name = options.name?.trim() || defaultName;
      const watch = options.watch ?? false;
      if (!watch && (await this.#leadsAgain(address, name))) return;
      await this.#joinAsMember(address, name, watch);
    });
  }

  pause(): void {
    this.#command('pause');
  }

  resume(): void {
    this.#store.update({ problem: null });
    this.#command('resume');
  }

  async leave(): Promise<void> {
    const role = this.#role;
    if (role === null) return;
    this.#role = null;
    this.#visit++;
    rememberTab(null);
    history.replaceState(null, '', location.pathname + location.search);
    if (role.kind === 'lead') {
      role.driver.dispatch({ type: 'command', command: 'stop' });
      await role.driver.saveCheckpoint();
      await role.lease.release();
      await role.driver.close('the coordinator left');
      role.unlock();
    } else {
      await role.driver.leave();
    }
    this.#endVisit();
    this.#store.update({ phase: 'left', problem: null, peers: [], link: null, inviteLink: null });
  }

  rename(name: string): void {
    this.#store.update({ name });
  }

  setSampleTemperature(temperature: number): void {
    this.#store.update({ sampleTemperature: Math.max(0, Math.min(2, temperature)) });
    this.#sampler?.hurry();
  }

  async savedRuns(): Promise<readonly SavedRun[]> {
    return this.#gpu.storage.list();
  }

  async deleteRun(room: string): Promise<void> {
    await this.#gpu.storage.remove(room);
    await forgetHolder(room);
  }

  dismissProblem(): void {
    this.#store.update({ problem: null });
  }

  /** Puts what goes wrong into the state, and tells the caller too. */
  async #guarded<T>(work: () => Promise<T>): Promise<T> {
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

  async #requireGpu(): Promise<void> {
    const report = await this.checkDevice();
    if (report.problem !== null) throw new SessionError(report.problem);
  }

  /** A reloaded tab goes back to its room, in the role it had. */
  async #resumeTab(): Promise<void> {
    const address = parseRoomLink(location.hash);
    const tab = recalledTab();
    if (address === null || 'code' in address) {
      if (address !== null) this.#store.update({ problem: address });
      return;
    }
    if (tab?.room !== address.room) return;
    const { name } = tab;
    this.#store.update({ phase: 'finding-room', room: address.room, name });
    await this.#guarded(async () => {
      if (tab.role === 'coordinator' && (await this.#leadsAgain(address, name))) return;
      await this.#joinAsMember(address, name, tab.role === 'watcher');
    }).catch(() => undefined); // It is in the state.
  }

  async #saveRun(address: RoomAddress, description: RunDescription, tokens: Uint32Array, name: string): Promise<void> {
    void askForPersistence();
    const run = {
      ...address,
      title: description.title,
      run: serializeRun(description),
      steps: description.settings.steps,
      tokens: tokens.slice(), // Moved to the worker.
      createdAtMs: Date.now(),
      name,
    };
    try {
      await this.#gpu.storage.saveRun(run);
    } catch (error) {
      this.#store.update({ problem: storageProblemOf(error) });
    }
  }

  /** Leads a room whose run this browser has saved, unless somebody leads it. False: join it instead. */
  async #leadsAgain(address: RoomAddress, name: string): Promise<boolean> {
    const run = await this.#gpu.storage.loadRun(address.room).catch(() => null);
    if (run?.key !== address.key) return false;
    const lease = await this.#directory(address).lookUp().catch(() => null);
    const isOurTab = recalledTab()?.room === address.room && recalledTab()?.role === 'coordinator';
    if (lease !== null && lease.expiresInMs > 0 && !isOurTab) return false;
    await this.#requireGpu();
    await this.#lead({
      address,
      description: parseRun(run.run),
      tokens: run.tokens,
      name,
      lastTerm: lease?.term ?? 1,
      startPaused: false,
    });
    return true;
  }

  #directory(address: RoomAddress): DirectoryClient {
    return createDirectoryClient(new URL('.', document.baseURI), address.room, address.key);
  }

  /** Enters a room: what both roles share. */
  #enter(address: RoomAddress, name: string, role: 'coordinator' | 'member' | 'watcher'): DirectoryClient {
    const page = new URL(location.href);
    const link = roomLink(page, address);
    const directory = this.#directory(address);
    this.#endVisit();
    this.#address = address;
    history.replaceState(null, '', link);
    rememberTab({ room: address.room, role, name });
    this.#store.update({ role, room: address.room, link, inviteLink: link, name, history: [], peers: [], sample: null, loss: null, step: 0 });
    if (page.hostname === 'localhost' || page.hostname === '127.0.0.1') {
      const visit = this.#visit;
      directory.serverUrls().then(
        ({ lan: [first] }) => {
          if (first !== undefined && visit === this.#visit) this.#store.update({ inviteLink: roomLink(new URL(first), address) });
        },
        () => undefined, // The link of this page is shown.
      );
    }
    this.#signalling = new Signalling({
      address,
      directory,
      accept: (connection) => {
        if (this.#role?.kind === 'lead') return this.#role.driver.accept(connection);
        connection.close('this peer does not lead the room');
        return { control: () => undefined, blob: () => undefined, closed: () => undefined };
      },
      changed: (signalling) => {
        this.#store.update({ signalling });
      },
    });
    this.#stopTicker = startTicker(tickPeriodMs, () => {
      this.#tick();
    });
    return directory;
  }

  async #lead(request: LeadRequest): Promise<{ link: string }> {
    const { address, description, name } = request;
    const unlock = await leadLock(address.room);
    if (unlock === null) {
      // Another tab of this browser leads it.
      await this.#joinAsMember(address, name, false);
      return { link: this.#link() };
    }
    try {
      const directory = this.#enter(address, name, 'coordinator');
      const visit = this.#visit;
      this.#store.update({ phase: 'preparing' });
      this.#showRun(description);
      const { trainer, storage } = this.#gpu;
      await trainer.prepare(trainerSettings(description));
      const restored = await storage.restoreCheckpoint(address.room).catch((error: unknown) => {
        this.#store.update({ problem: storageProblemOf(error) });
        return null;
      });
      const startHash = restored?.replicaHash ?? (await trainer.initialize());
      if (restored !== null && restored.damagedNewer > 0) {
        this.#store.notice('The newest checkpoint was damaged; the one before it is used.');
      }
      const endpoint = await this.#signalling?.endpoint().catch(() => null);
      const self = (endpoint?.id ?? `offline-${crypto.randomUUID()}`) as PeerId;
      const lease = new LeaseKeeper({
        directory,
        holder: await holderOf(address.room),
        peerId: () => this.#signalling?.id ?? null,
        reachable: (isReachable) => {
          this.#store.update({ signalling: isReachable ? 'online' : 'offline' });
        },
        deposed: () => {
          void this.#stepDown();
        },
      });
      const otherLead = await lease.acquire(self, Math.max(request.lastTerm, restored?.facts.term ?? 0));
      if (otherLead !== null) {
        unlock();
        await this.#joinAsMember(address, name, false);
        return { link: this.#link() };
      }
      const device = await this.checkDevice();
      if (visit !== this.#visit) throw new SessionError(describeProblem('left', 'The room was left while it was being prepared.'));
      const driver = this.#leadDriver(request, { lease, self, device, startHash, restored: restored?.facts ?? null });
      this.#role = { kind: 'lead', driver, lease, unlock };
      this.#watchGpu();
      this.#refresh();
      return { link: this.#link() };
    } catch (error) {
      unlock();
      throw error;
    }
  }

  #leadDriver(
    { address, description, tokens, name, startPaused }: LeadRequest,
    from: {
      readonly lease: LeaseKeeper;
      readonly self: PeerId;
      readonly device: DeviceReport;
      readonly startHash: string;
      readonly restored: { readonly step: number; readonly history: string; readonly startedAtMs: number } | null;
    },
  ): LeadDriver {
    const { settings } = description;
    const source = batchesOf(description, tokens);
    const { trainer, storage } = this.#gpu;
    return new LeadDriver({
      room: address.room,
      trainer,
      storage,
      source,
      nowMs: () => performance.now(),
      changed: () => {
        this.#refresh();
      },
      problem: (problem) => {
        this.#store.update({ problem });
      },
      notice: (text) => {
        this.#store.notice(text);
      },
      checkpointSaved: (step) => {
        this.#store.update({ lastCheckpoint: { step, savedAtMs: Date.now() } });
      },
      config: {
        self: from.self,
        name,
        term: from.lease.term as Term,
        run: serializeRun(description),
        steps: settings.steps,
        microbatchesPerStep: source.microbatchesPerStep,
        tokensPerMicrobatch: settings.rowsPerMicrobatch * settings.contextLength,
        weightOfMicrobatch: (step, microbatch) => weightOf(source.draw(step, microbatch)),
        selfDevice: peerDevice(from.device),
        evalEvery: source.validation.length > 0 ? settings.evalEvery : 0,
        checkpointEveryMs,
        checkpointEverySteps,
        startStep: (from.restored?.step ?? 0) as Step,
        startHash: from.startHash,
        // Our own JSON, behind the checkpoint's checksum.
        history: from.restored === null ? [] : (JSON.parse(from.restored.history) as HistoryPoint[]),
        startedAtMs: from.restored?.startedAtMs ?? Date.now(),
        startPaused,
      },
    });
  }

  async #joinAsMember(address: RoomAddress, name: string, watch: boolean): Promise<void> {
    const directory = this.#enter(address, name, watch ? 'watcher' : 'member');
    const visit = this.#visit;
    this.#store.update({ phase: watch ? 'finding-room' : 'checking-device' });
    const device = watch ? watchingDevice : await this.checkDevice();
    if (visit !== this.#visit) return;
    const driver = new MemberDriver({
      config: {
        name,
        wantsToWatch: watch,
        device: peerDevice(device),
        seed: crypto.getRandomValues(new Uint32Array(1))[0] ?? 0,
      },
      directory,
      endpoint: () => {
        if (this.#signalling === null) throw new SessionError(describeProblem('left', 'The room was left.'));
        return this.#signalling.endpoint();
      },
      trainer: watch || device.problem !== null ? null : this.#gpu.trainer,
      nowMs: () => performance.now(),
      changed: () => {
        this.#refresh();
      },
      problem: (problem) => {
        this.#store.update({ problem });
      },
      notice: (text) => {
        this.#store.notice(text);
      },
      run: (description) => {
        this.#showRun(description);
      },
    });
    this.#role = { kind: 'member', driver };
    if (!watch && device.problem === null) this.#watchGpu();
    this.#refresh();
  }

  #showRun(description: RunDescription): void {
    const { settings, title, prompt, characters } = description;
    this.#store.update({
      title,
      settings,
      steps: settings.steps,
      parameterCount: parameterCount(settings.model),
      expectedInitialLoss: Math.log(settings.model.vocab_size),
    });
    this.#sampler = new Sampler({
      tokenizer: new CharacterTokenizer(characters),
      prompt,
      sampled: ({ step, text, temperature }) => {
        this.#store.update({ sample: { step, prompt, text, temperature, own: true } });
        if (this.#role?.kind === 'lead') this.#role.driver.sampled(step as Step, text);
      },
    });
  }

  #watchGpu(): void {
    const visit = this.#visit;
    this.#gpu.whenLost((reason) => {
      if (visit !== this.#visit) return;
      this.#store.notice('The GPU was lost; opening it again.');
      this.#store.update({ problem: reason });
      void this.#guarded(() => this.#recoverGpu()).catch(() => undefined); // It is in the state.
    });
  }

  async #recoverGpu(): Promise<void> {
    const role = this.#role;
    if (role === null) return;
    if (role.kind === 'member') {
      role.driver.dispatch({ type: 'device', device: peerDevice({ ...(await this.#gpu.restart()), problem: trainerProblems.gpuLost('') }) });
      const device = await this.checkDevice();
      role.driver.replaceTrainer(this.#gpu.trainer, peerDevice(device));
      if (device.problem === null) {
        this.#store.update({ problem: null });
        this.#watchGpu();
      }
      return;
    }
    // Weights and moments went with the GPU: a new reign starts from the newest checkpoint, as after a reload.
    const { room } = this.#address ?? { room: '' };
    const lastTerm = role.lease.term;
    const { name } = this.#store.state;
    await this.#abandonLead(role);
    await this.#gpu.restart();
    await this.#requireGpu();
    const run = await this.#gpu.storage.loadRun(room);
    if (run === null) throw new SessionError(describeProblem('run-not-found', 'The GPU was lost, and this browser could not save the run.'));
    await this.#lead({
      address: { room: run.room, key: run.key },
      description: parseRun(run.run),
      tokens: run.tokens,
      name,
      lastTerm,
      startPaused: false,
    });
    this.#store.update({ problem: null });
  }

  async #abandonLead(role: Extract<Role, { kind: 'lead' }>): Promise<void> {
    this.#role = null;
    await role.driver.close('the coordinator starts again');
    role.unlock();
  }

  /** Somebody else leads with a higher term: go on as one of its members. */
  async #stepDown(): Promise<void> {
    const role = this.#role;
    const address = this.#address;
    if (role?.kind !== 'lead' || address === null) return;
    const { name } = this.#store.state;
    this.#store.notice('Another peer leads the room now; this one goes on as a member.');
    await this.#abandonLead(role);
    await this.#guarded(() => this.#joinAsMember(address, name, false)).catch(() => undefined); // It is in the state.
  }

  #command(command: 'pause' | 'resume'): void {
    if (this.#role?.kind === 'lead') this.#role.driver.dispatch({ type: 'command', command });
    else this.#role?.driver.dispatch({ type: 'command', command });
  }

  #tick(): void {
    const role = this.#role;
    if (role === null) return;
    const nowMs = performance.now();
    role.driver.dispatch({ type: 'tick' });
    if (role.kind === 'lead') role.lease.tick(nowMs);
    const { view } = role.driver;
    const replicaStep = role.kind === 'lead' ? view.step : role.driver.view.replica?.step;
    const canSample = role.kind === 'lead' || (replicaStep !== undefined && view.role === 'member');
    if (canSample && replicaStep !== undefined && replicaStep > 0) {
      this.#sampler?.tick(this.#gpu.trainer, replicaStep, this.#store.state.sampleTemperature, nowMs);
    }
    this.#refresh();
  }

  /** Brings the state up to date with the machine. */
  #refresh(): void {
    const role = this.#role;
    if (role === null) return;
    const { view, heldHash } = shownView(role);
    const { state } = this.#store;
    for (const text of comingsAndGoings(state.peers, view.peers, view.self)) this.#store.notice(text);
    const { tokensPerSecond, stepMs } = recentSpeed(view.history);
    const last = view.history.at(-1);
    this.#store.update({
      phase: phaseOf(role, view),
      role: view.role,
      selfId: view.self,
      term: view.term,
      step: view.step,
      steps: view.steps > 0 ? view.steps : state.steps,
      loss: last?.loss ?? null,
      validationLoss: view.history.findLast((point) => point.validationLoss !== undefined)?.validationLoss ?? null,
      tokensPerSecond: view.phase === 'running' ? tokensPerSecond : 0,
      ownTokensPerSecond: (view.phase === 'running' && view.peers.find(({ id }) => id === view.self)?.tokensPerSecond) || 0,
      elapsedMs: this.#clock.elapsedMs(view.history),
      remainingMs: stepMs > 0 && view.phase === 'running' ? (view.steps - view.step) * stepMs : null,
      peers: view.peers,
      history: view.history,
      replicaHash: heldHash ?? last?.replicaHash ?? null,
    });
    if (role.kind === 'member' && role.driver.view.sample !== null && state.sample?.own !== true) {
      const { step, text } = role.driver.view.sample;
      if (state.sample?.step !== step) this.#store.update({ sample: { step, prompt: '', text, temperature: 0, own: false } });
    }
  }

  /** The page is going away: whoever is left should know at once. */
  #sayGoodbye(): void {
    const role = this.#role;
    if (role?.kind === 'member') role.driver.dispatch({ type: 'command', command: 'leave' });
    else if (role?.kind === 'lead') void role.lease.release();
  }

  #endVisit(): void {
    this.#visit++;
    this.#stopTicker?.();
    this.#stopTicker = null;
    this.#signalling?.close();
    this.#signalling = null;
    this.#sampler = null;
    this.#address = null;
    this.#store.update({ signalling: 'unused' });
  }

  #link(): string {
    return this.#store.state.link ?? location.href;
  }
}

const watchingDevice: DeviceReport = { name: 'watching', isSoftware: false, features: [], probeTokensPerSecond: 0, problem: null };

function peerDevice({ name, isSoftware, probeTokensPerSecond, problem }: DeviceReport): PeerDevice {
  return {
    name: name.slice(0, 120),
    isSoftware,
    probeTokensPerSecond,
    problem: problem === null ? null : { code: problem.code, message: problem.message.slice(0, 400) },
  };
}

/**
 * The room as this page may speak of it. News of a step can overtake the step's weights; a member shows a step once it
 * holds them, so that step, history and hash always belong together.
 */
function shownView(role: Role): { readonly view: RoomView; readonly heldHash: string | null } {
  if (role.kind === 'lead') return { view: role.driver.view, heldHash: null };
  const { view } = role.driver;
  const { replica } = view;
  if (replica === null || replica.step >= view.step) return { view, heldHash: replica?.hash ?? null };
  const phase = view.phase === 'stopped' ? view.phase : 'running';
  const history = view.history.filter((point) => point.step < replica.step);
  return { view: { ...view, step: replica.step, history, phase }, heldHash: replica.hash };
}

function phaseOf(role: Role, { phase }: RoomView): SessionPhase {
  if (role.kind === 'lead') return phase;
  const { connection, wasWelcomed } = role.driver.view;
  switch (connection) {
    case 'finding':
      return wasWelcomed ? 'reconnecting' : 'finding-room';
    case 'connecting':
    case 'greeting':
      return wasWelcomed ? 'reconnecting' : 'connecting';
    case 'fetching':
      return 'fetching-replica';
    case 'joined':
      return phase;
    case 'refused':
      return 'stopped';
    case 'left':
      return 'left';
  }
}

/** One tab of a browser leads a room; the lock is free again when that tab closes, however it does. Null: taken. */
function leadLock(room: string): Promise<(() => void) | null> {
  return new Promise((resolve, reject) => {
    navigator.locks
      .request(`cotrain-lead-${room}`, { ifAvailable: true }, (lock) => {
        if (lock === null) {
          resolve(null);
          return undefined;
        }
        return new Promise<void>((release) => {
          resolve(release);
        });
      })
      .catch(reject);
  });
}
