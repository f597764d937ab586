/** The room's rules in this browser: saved beside the run whenever they change, and told in words when they are news. */
import * as v from 'valibot';
import type { SavedProgress } from '../checkpoint/types.ts';
import type { SavedState } from '../room/machine.ts';
import type { Step, Term } from '../room/messages.ts';
import { noRules, roomRulesSchema } from '../room/rules.ts';
import type { RoomRules } from '../room/rules.ts';
import { changeInWords } from './schedule.ts';
import type { RunSettings } from './types.ts';

/** Of a run that was saved before there were any, or by a page of another version: none. */
export function parseRules(saved: string | undefined): RoomRules {
  const parsed = v.safeParse(v.pipe(v.string(), v.parseJson(), roomRulesSchema), saved);
  return parsed.success ? parsed.output : noRules;
}

/** What this browser could bring the room back from by itself: nothing, if it may not be there, or another closed it. */
export function heritage(saved: SavedProgress | null, self: { readonly holderHash: string; readonly isOwner: boolean }): SavedState | null {
  if (saved === null) return null;
  const { removed, isClosed } = parseRules(saved.rules);
  if (removed.includes(self.holderHash) || (isClosed && !self.isOwner)) return null;
  return { step: saved.step as Step, term: saved.term as Term };
}

/** What the owner has just done, for the log; null where it is none of a log's business. */
export function rulesInWords({ latest, changes }: RoomRules, settings: RunSettings | null): string | null {
  if (latest === null) return null;
  const { kind, by, about } = latest;
  switch (kind) {
    case 'rename':
      return `${by} named the room “${about}”.`;
    case 'schedule': {
      const last = changes.at(-1);
      if (last === undefined || settings === null) return null;
      return `${by} changed the schedule. From step ${last.step} on: ${changeInWords(settings, changes, changes.length - 1)}.`;
    }
    case 'remove':
      return `${by} removed ${about} from the room.`;
    case 'handOver':
      return `${by} hands the lead over to ${about}.`;
    case 'renewKey':
      return `${by} renewed the room’s key: the old link lets nobody in any more.`;
    case 'close':
      return `${by} closed the room.`;
    case 'reopen':
      return `${by} opened the room again.`;
  }
}
