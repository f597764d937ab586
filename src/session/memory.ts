/**
 * What this browser remembers of rooms: lease secrets (shared by its tabs), and which room this very tab is in (so that a
 * reload goes back there). Only these facts; runs and weights are in the checkpoint store.
 */
import * as v from 'valibot';
import { openSettings } from '../checkpoint/settings.ts';
import { newHolder } from './directory-client.ts';

const tabKey = 'cotrain:tab';

const tabSchema = v.object({
  room: v.string(),
  role: v.picklist(['coordinator', 'member', 'watcher']),
  name: v.string(),
});
export type TabMembership = v.InferOutput<typeof tabSchema>;

const settings = openSettings();

/** What this tab was before it was reloaded; null when it was in no room. */
export function recalledTab(): TabMembership | null {
  try {
    const parsed = v.safeParse(tabSchema, JSON.parse(sessionStorage.getItem(tabKey) ?? 'null'));
    return parsed.success ? parsed.output : null;
  } catch {
    return null; // Storage is forbidden here, or holds something else: this tab starts afresh.
  }
}

export function rememberTab(membership: TabMembership | null): void {
  try {
    if (membership === null) sessionStorage.removeItem(tabKey);
    else sessionStorage.setItem(tabKey, JSON.stringify(membership));
  } catch {
    // Forbidden: a reload asks again.
  }
}

/** Asked for at every turn of a hand-off, and never another within one page: a lease is renewed by whoever took it. */
const holders = new Map<string, Promise<string>>();

/** This browser's secret for a room's lease; a new one for each page when storage is forbidden, which only makes a reload wait for the lease to run out. */
export function holderOf(room: string): Promise<string> {
  const known = holders.get(room) ?? storedHolder(room);
  holders.set(room, known);
  return known;
}

async function storedHolder(room: string): Promise<string> {
  const key = `holder:${room}`;
  const fresh = newHolder();
  try {
    const known = await settings.read(key, (stored) => (typeof stored === 'string' ? stored : null));
    if (known !== null) return known;
    await settings.write(key, fresh);
  } catch {
    return fresh;
  }
  return fresh;
}

export async function forgetHolder(room: string): Promise<void> {
  holders.delete(room);
  await settings.remove(`holder:${room}`);
}
