/** The server's command line: text in, checked options out. Starts nothing and reads no file. */
import { parseArgs } from 'node:util';
import { StartProblem } from './problem.ts';

export const defaultPort = 8443;

export interface ServerArguments {
  readonly help: boolean;
  /** 0 lets the system choose a free one. */
  readonly port: number;
  /** null: every interface. */
  readonly host: string | null;
  readonly cert: string | null;
  readonly key: string | null;
  readonly turnUrls: readonly string[];
  readonly turnSecret: string | null;
  readonly stunUrls: readonly string[];
}

export const helpText = `Serves Cotrain: the page, signalling and the room directory, from one process on one port.

  npm start -- [options]

  --port NUMBER        port for http and https alike (default ${defaultPort}; 0 picks a free one)
  --host ADDRESS       listen on this name or address only (default: every interface)
  --cert FILE          certificate (PEM) for https, with --key; otherwise one is made and kept
  --key FILE           its private key (PEM)
  --turn-url URL       relay for peers that can't reach each other, e.g. turn:relay.example.org:3478 (repeatable)
  --turn-secret TEXT   the relay's shared secret (coturn: use-auth-secret, static-auth-secret)
  --stun-url URL       STUN server, for rooms that span networks, e.g. stun:stun.example.org:3478 (repeatable)
  --help               this text
`;

/** Throws a `StartProblem` whose message is the one line to print. */
export function parseArguments(argv: readonly string[]): ServerArguments {
  const values = parseValues(argv);
  const turnUrls = values['turn-url'] ?? [];
  const turnSecret = values['turn-secret'] ?? null;
  const stunUrls = values['stun-url'] ?? [];
  const cert = values.cert ?? null;
  const key = values.key ?? null;
  if ((cert === null) !== (key === null)) {
    throw new StartProblem(`--cert and --key belong together: --${cert === null ? 'cert' : 'key'} is missing.`);
  }
  if (turnUrls.length > 0 && turnSecret === null) throw new StartProblem('--turn-url needs --turn-secret, the shared secret of that relay.');
  if (turnSecret !== null && turnUrls.length === 0) throw new StartProblem('--turn-secret needs --turn-url, the relay that knows it.');
  if (turnSecret === '') throw new StartProblem('--turn-secret is empty.');
  if (values.host === '') throw new StartProblem('--host is empty.');
  for (const url of turnUrls) checkIceUrl('--turn-url', url, /^turns?:/);
  for (const url of stunUrls) checkIceUrl('--stun-url', url, /^stuns?:/);
  return {
    help: values.help ?? false,
    port: values.port === undefined ? defaultPort : parsePort(values.port),
    host: values.host ?? null,
    cert,
    key,
    turnUrls,
    turnSecret,
    stunUrls,
  };
}

function parseValues(argv: readonly string[]) {
  try {
    return parseArgs({
      args: [...argv],
      strict: true,
      allowPositionals: false,
      options: {
        help: { type: 'boolean', short: 'h' },
        port: { type: 'string', short: 'p' },
        host: { type: 'string' },
        cert: { type: 'string' },
        key: { type: 'string' },
        'turn-url': { type: 'string', multiple: true },
        'turn-secret': { type: 'string' },
        'stun-url': { type: 'string', multiple: true },
      },
    }).values;
  } catch (error) {
    // The parser's message goes on about `--` after its first sentence; that one names the option.
    const reason = error instanceof Error ? error.message : String(error);
    const sentence = reason.split(/\.\s|\n/)[0] ?? reason;
    throw new StartProblem(`${sentence.replace(/\.$/, '')}. See --help.`);
  }
}

function parsePort(text: string): number {
  const port = /^\d{1,5}$/.test(text) ? Number(text) : Number.NaN;
  if (!(port <= 65_535)) throw new StartProblem(`--port must be a number from 0 to 65535, not "${text}".`);
  return port;
}

function checkIceUrl(option: string, url: string, scheme: RegExp): void {
  // RFC 7064 and 7065: scheme, host, optional port, optional transport; no slashes, no user.
  const shape = /^(?:stuns?|turns?):(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?(?:\?transport=(?:udp|tcp))?$/;
  if (!scheme.test(url) || !shape.test(url)) {
    const example = option === '--turn-url' ? 'turn:relay.example.org:3478' : 'stun:stun.example.org:3478';
    throw new StartProblem(`${option} must look like ${example}, not "${url}".`);
  }
}
