/** `npm start`: command line in, a running server and a few helpful lines out. */
import { existsSync } from 'node:fs';
import path from 'node:path';
import { isatty } from 'node:tty';
import { fileURLToPath } from 'node:url';
import { helpText, parseArguments, type ServerArguments } from './args.ts';
import { configDirectory, givenCertificate, keptCertificate, type Certificate } from './certificate.ts';
import { machineNames } from './machine.ts';
import { StartProblem } from './problem.ts';
import { qrText } from './qr.ts';
import { startServer, type RunningServer } from './server.ts';

async function main(argv: readonly string[]): Promise<void> {
  const wishes = parseArguments(argv);
  if (wishes.help) {
    process.stdout.write(helpText);
    return;
  }
  const { certificate, warning } = chooseCertificate(wishes);
  // Built, this file is dist/server/main.js, beside dist/client.
  const pageDirectory = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../client');
  if (!existsSync(path.join(pageDirectory, 'index.html'))) {
    throw new StartProblem(`The page is not built (${pageDirectory} has no index.html): run npm start, which builds it.`);
  }
  const warn = (text: string): void => void process.stderr.write(`${text}\n`);
  const roomsFolder = configDirectory();
  const server = await startServer({ port: wishes.port, host: wishes.host, certificate, ice: wishes, pageDirectory, roomsFolder, warn });
  if (warning !== null) warn(warning);
  process.stdout.write(greeting(server, certificate, isatty(process.stdout.fd)));
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => {
      // PeerServer's own timers can't be stopped, so the process has to be told.
      void server.close().then(() => process.exit(0));
    });
  }
}

function chooseCertificate(wishes: ServerArguments): { readonly certificate: Certificate; readonly warning: string | null } {
  if (wishes.cert !== null && wishes.key !== null) return { certificate: givenCertificate(wishes.cert, wishes.key), warning: null };
  const names = machineNames().certificateNames;
  const named = wishes.host === null || names.includes(wishes.host) ? names : [...names, wishes.host];
  return keptCertificate(configDirectory(), named, new Date());
}

function greeting(server: RunningServer, certificate: Certificate, isTerminal: boolean): string {
  const { local, lan } = server.urls;
  const lines = ['', 'Cotrain is running.', ''];
  for (const url of lan) lines.push(`  on your network   ${url}`);
  if (local !== null) lines.push(`  on this machine   ${local}`);
  lines.push('');
  const [first] = lan;
  if (first === undefined) {
    lines.push('No address of a network was found or asked for: other machines cannot join.', '');
  } else {
    lines.push(qrText(first, isTerminal));
    if (certificate.origin === 'made') {
      lines.push(
        'The browser will warn about the certificate, because this machine made it itself and no authority vouches for it:',
        'choose "Advanced", then "Proceed". It must be https, since browsers give WebGPU to secure pages (and localhost) only.',
        '',
      );
    }
  }
  lines.push('Stop with Ctrl+C.', '');
  return lines.join('\n');
}

main(process.argv.slice(2)).catch((error: unknown) => {
  process.stderr.write(`${error instanceof StartProblem ? error.message : error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
  process.exit(1);
});
