/**
 * What a page needs to know to get through networks: nothing by default (machines of one network reach each other by
 * their own addresses), STUN and TURN only where the person who started the server named them.
 * TURN credentials end by themselves: the "REST API for access to TURN services" scheme, which coturn calls use-auth-secret.
 */
import { createHmac } from 'node:crypto';

export interface IceSettings {
  readonly turnUrls: readonly string[];
  readonly turnSecret: string | null;
  readonly stunUrls: readonly string[];
}

export interface IceServer {
  readonly urls: readonly string[];
  readonly username?: string;
  readonly credential?: string;
}

/** Long enough for a day's room: a relay checks the time again whenever an allocation is refreshed. */
export const turnLifetimeSeconds = 24 * 3600;

/** username = `expiryUnix:name`, password = base64(HMAC-SHA1(secret, username)). */
export function turnCredentials(secret: string, name: string, expiresAtSeconds: number): { readonly username: string; readonly credential: string } {
  const username = `${expiresAtSeconds}:${name}`;
  return { username, credential: createHmac('sha1', secret).update(username).digest('base64') };
}

export function iceServers(settings: IceSettings, nowMs: number): readonly IceServer[] {
  const servers: IceServer[] = [];
  if (settings.stunUrls.length > 0) servers.push({ urls: settings.stunUrls });
  if (settings.turnUrls.length > 0 && settings.turnSecret !== null) {
    const expires = Math.floor(nowMs / 1000) + turnLifetimeSeconds;
    servers.push({ urls: settings.turnUrls, ...turnCredentials(settings.turnSecret, 'cotrain', expires) });
  }
  return servers;
}
