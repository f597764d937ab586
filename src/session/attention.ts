/**
 * Whether this tab is in a state to work: awake, not held back by the browser, and not about to run out of power. Says so when
 * that changes; what follows from it is the room's to decide.
 */
import { awake } from '../room/messages.ts';
import type { Presence } from '../room/messages.ts';

/** Below this charge, and not charging, a member leaves the work to others. */
const lowCharge = 0.15;
/** A clock that ticks four times a second was held up when it was silent for so long. */
const heldUpMs = 2_500;
/** So often within the window: the tab is being throttled. Once: the machine was asleep, or busy for a moment. */
const timesHeldUp = 3;
const windowMs = 30_000;

/** Tells a tab that is throttled from one that was held up once. */
export class TickWatch {
  #lastMs: number | null = null;
  #heldUpAtMs: readonly number[] = [];

  /** To be called with every tick; whether the tab is throttled. */
  tick(nowMs: number): boolean {
    const gapMs = nowMs - (this.#lastMs ?? nowMs);
    this.#lastMs = nowMs;
    const recent = this.#heldUpAtMs.filter((atMs) => nowMs - atMs <= windowMs);
    // A tick that comes late says nothing of those before a sleep.
    this.#heldUpAtMs = gapMs > windowMs ? [] : gapMs > heldUpMs ? [...recent, nowMs] : recent;
    return this.#heldUpAtMs.length >= timesHeldUp;
  }
}

export interface Circumstances {
  readonly isHidden: boolean;
  readonly isFrozen: boolean;
  readonly isThrottled: boolean;
  /** A phone or tablet: soon after a tab is hidden there, it stands still. */
  readonly isHandheld: boolean;
  /** null where the browser doesn't tell. */
  readonly battery: { readonly level: number; readonly isCharging: boolean } | null;
}

export function presenceOf({ isHidden, isFrozen, isThrottled, isHandheld, battery }: Circumstances): Presence {
  const isLow = battery !== null && !battery.isCharging && battery.level <= lowCharge;
  // Browsers throttle what nobody looks at; a page in front that is held up is only busy.
  const rest = isFrozen ? 'frozen' : isHidden && isHandheld ? 'hidden' : isHidden && isThrottled ? 'throttled' : isLow ? 'battery' : null;
  return { isHidden, rest };
}

/** What Chromium knows of the battery; other browsers don't tell. */
interface BatteryManager extends EventTarget {
  readonly level: number;
  readonly charging: boolean;
}

export class Attention {
  readonly #changed: (presence: Presence) => void;
  readonly #ticks = new TickWatch();
  readonly #isHandheld = matchMedia('(pointer: coarse) and (hover: none)').matches;
  #isFrozen = false;
  #isThrottled = false;
  #battery: BatteryManager | null = null;
  #presence: Presence = awake;

  /** `changed` is called at once with every change, also in the last moment before the tab is frozen. */
  constructor(changed: (presence: Presence) => void) {
    this.#changed = changed;
    const look = (): void => {
      this.#look();
    };
    document.addEventListener('visibilitychange', look);
    document.addEventListener('freeze', () => {
      this.#isFrozen = true;
      look();
    });
    document.addEventListener('resume', () => {
      this.#isFrozen = false;
      look();
    });
    void this.#watchBattery(look);
    look();
  }

  get presence(): Presence {
    return this.#presence;
  }

  /** Four times a second. */
  tick(nowMs: number): void {
    this.#isThrottled = this.#ticks.tick(nowMs);
    this.#look();
  }

  async #watchBattery(look: () => void): Promise<void> {
    const { getBattery } = navigator as Navigator & { readonly getBattery?: () => Promise<BatteryManager> };
    if (getBattery === undefined) return;
    try {
      this.#battery = await getBattery.call(navigator);
    } catch {
      return; // Policy forbids it: as in browsers that don't tell.
    }
    for (const event of ['levelchange', 'chargingchange']) this.#battery.addEventListener(event, look);
    look();
  }

  #look(): void {
    const battery = this.#battery === null ? null : { level: this.#battery.level, isCharging: this.#battery.charging };
    const isHidden = document.visibilityState === 'hidden';
    const next = presenceOf({ isHidden, isFrozen: this.#isFrozen, isThrottled: this.#isThrottled, isHandheld: this.#isHandheld, battery });
    if (next.isHidden === this.#presence.isHidden && next.rest === this.#presence.rest) return;
    this.#presence = next;
    this.#changed(next);
  }
}
