/** Trouble that the page itself can see before any session work: the browser, and what was typed or pasted. */
import { notALink, parseRoomLink } from '../session/link.ts';
import type { RoomAddress } from '../session/link.ts';
import { insecureContext } from '../session/problems.ts';
import type { SessionState } from '../session/types.ts';
import { problems } from '../trainer/errors.ts';

export type Problem = NonNullable<SessionState['problem']>;

export interface BrowserFacts {
  readonly isSecureContext: boolean;
  readonly hasWebGpu: boolean;
}

/** Why this browser can't compute at all, or null. Cheap: whether its GPU computes rightly is the device check's business. */
export function browserProblem(facts: BrowserFacts): Problem | null {
  if (!facts.isSecureContext) return insecureContext;
  if (!facts.hasWebGpu) return problems.noWebGpu('');
  return null;
}

export function thisBrowser(): BrowserFacts {
  return { isSecureContext: globalThis.isSecureContext, hasWebGpu: 'gpu' in navigator };
}

export type PastedLink = { readonly address: RoomAddress; readonly problem: null } | { readonly address: null; readonly problem: Problem };

/** A pasted text is meant as a link, so unlike an address bar without a fragment it is never "no room at all". */
export function readPastedLink(text: string): PastedLink {
  const trimmed = text.trim();
  const parsed = parseRoomLink(trimmed.includes('#') ? trimmed : `#${trimmed}`);
  if (parsed === null) return { address: null, problem: notALink };
  return 'code' in parsed ? { address: null, problem: parsed } : { address: parsed, problem: null };
}
