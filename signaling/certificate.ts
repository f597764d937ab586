/**
 * The server's certificate: read from the files a person names, or made here (RFC 5280, ECDSA P-256) for every name and
 * address this machine has, and kept between starts so that browsers need to be convinced once.
 * Not a certificate authority: nobody vouches for a certificate made here, and browsers say so.
 */
import { createPrivateKey, generateKeyPairSync, randomBytes, sign, X509Certificate } from 'node:crypto';
import { chmodSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { homedir } from 'node:os';
import path from 'node:path';
import * as der from './der.ts';
import { ipBytes } from './machine.ts';
import { StartProblem, systemErrorCode } from './problem.ts';

export interface Certificate {
  readonly certPem: string;
  readonly keyPem: string;
  /** 'made': self-signed here, so the browser will warn. */
  readonly origin: 'given' | 'made';
}

const dayMs = 24 * 3600 * 1000;
/** Apple's and Chromium's limit for a server certificate is 398 days. */
const validityDays = 397;
/** A certificate is replaced this long before it ends, so that a room running overnight doesn't lose its page. */
const renewBeforeDays = 14;

const oid = {
  commonName: '2.5.4.3',
  ecdsaWithSha256: '1.2.840.10045.4.3.2',
  subjectAltName: '2.5.29.17',
  basicConstraints: '2.5.29.19',
  extendedKeyUsage: '2.5.29.37',
  serverAuth: '1.3.6.1.5.5.7.3.1',
} as const;

/** `names` are DNS names and IP addresses in any mix; they become the subject alternative names in that order. */
export function makeCertificate(names: readonly string[], now: Date): Certificate {
  const keys = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const algorithm = der.sequence(der.objectIdentifier(oid.ecdsaWithSha256));
  const subject = der.sequence(der.set(der.sequence(der.objectIdentifier(oid.commonName), der.utf8String('Cotrain on this network'))));
  const extension = (id: string, critical: boolean, value: Uint8Array): Buffer =>
    der.sequence(der.objectIdentifier(id), ...(critical ? [der.boolean(true)] : []), der.octetString(value));
  const toBeSigned = der.sequence(
    der.context(0, 'constructed', der.integer(Buffer.from([2]))),
    der.integer(Buffer.concat([Buffer.from([0x40]), randomBytes(15)])),
    algorithm,
    subject,
    // An hour back: the phone's clock may be a little behind this machine's.
    der.sequence(der.time(new Date(now.getTime() - 3600 * 1000)), der.time(new Date(now.getTime() + validityDays * dayMs))),
    subject,
    keys.publicKey.export({ type: 'spki', format: 'der' }),
    der.context(
      3,
      'constructed',
      der.sequence(
        // No keyUsage: a leaf that is its own issuer would need keyCertSign in it, which a leaf must not have.
        extension(oid.basicConstraints, true, der.sequence()),
        extension(oid.extendedKeyUsage, false, der.sequence(der.objectIdentifier(oid.serverAuth))),
        extension(oid.subjectAltName, false, der.sequence(...names.map(generalName))),
      ),
    ),
  );
  const signature = sign('sha256', toBeSigned, { key: keys.privateKey, dsaEncoding: 'der' });
  const certificate = der.sequence(toBeSigned, algorithm, der.bitString(signature));
  return {
    certPem: pem('CERTIFICATE', certificate),
    keyPem: keys.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    origin: 'made',
  };
}

function generalName(name: string): Buffer {
  return isIP(name) === 0 ? der.context(2, 'primitive', Buffer.from(name, 'ascii')) : der.context(7, 'primitive', ipBytes(name));
}

function pem(label: string, bytes: Uint8Array): string {
  const lines = Buffer.from(bytes).toString('base64').match(/.{1,64}/g) ?? [];
  return `-----BEGIN ${label}-----\n${lines.join('\n')}\n-----END ${label}-----\n`;
}

/** True while the certificate speaks for every one of `names` and doesn't end soon. */
export function certificateCovers(certPem: string, names: readonly string[], now: Date): boolean {
  const certificate = new X509Certificate(certPem);
  const end = Date.parse(certificate.validTo);
  if (Date.parse(certificate.validFrom) > now.getTime() || end - now.getTime() < renewBeforeDays * dayMs) return false;
  return names.every((name) => (isIP(name) === 0 ? certificate.checkHost(name) : certificate.checkIP(name)) !== undefined);
}

/** Where this system keeps a person's settings. */
export function configDirectory(environment: NodeJS.ProcessEnv = process.env, platform: NodeJS.Platform = process.platform): string {
  const explicit = environment['XDG_CONFIG_HOME'];
  if (explicit !== undefined && path.isAbsolute(explicit)) return path.join(explicit, 'cotrain');
  if (platform === 'win32') return path.join(environment['APPDATA'] ?? path.join(homedir(), 'AppData', 'Roaming'), 'cotrain');
  if (platform === 'darwin') return path.join(homedir(), 'Library', 'Application Support', 'cotrain');
  return path.join(homedir(), '.config', 'cotrain');
}

/**
 * The kept certificate when it still fits `names`, else a new one, kept for the next start. `warning` says that it
 * couldn't be kept: the server works, but browsers will ask again after the next start.
 */
export function keptCertificate(
  directory: string,
  names: readonly string[],
  now: Date,
): { readonly certificate: Certificate; readonly warning: string | null } {
  // Key and certificate live in one file, so that a crash between two writes can't leave a pair that doesn't match.
  const file = path.join(directory, 'certificate.pem');
  const kept = readKept(file);
  if (kept !== null && certificateCovers(kept.certPem, names, now)) return { certificate: kept, warning: null };
  const certificate = makeCertificate(names, now);
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    const partial = `${file}.${process.pid}.partial`;
    writeFileSync(partial, certificate.keyPem + certificate.certPem, { mode: 0o600 });
    chmodSync(partial, 0o600);
    renameSync(partial, file);
    return { certificate, warning: null };
  } catch (error) {
    const why = systemErrorCode(error) ?? String(error);
    return { certificate, warning: `The certificate could not be kept in ${directory} (${why}): browsers will warn again after the next start.` };
  }
}

function readKept(file: string): Certificate | null {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch {
    return null; // Nothing kept yet, or not readable: a new one is made, and whether that can be kept is reported.
  }
  const certPem = /-----BEGIN CERTIFICATE-----[^]+?-----END CERTIFICATE-----\n/.exec(text)?.[0];
  const keyPem = /-----BEGIN PRIVATE KEY-----[^]+?-----END PRIVATE KEY-----\n/.exec(text)?.[0];
  if (certPem === undefined || keyPem === undefined) return null;
  return mismatch(certPem, keyPem) === null ? { certPem, keyPem, origin: 'made' } : null;
}

/** `--cert` and `--key`. Throws a `StartProblem` that names the file and what is wrong with it. */
export function givenCertificate(certFile: string, keyFile: string): Certificate {
  const certPem = readNamed('--cert', certFile);
  const keyPem = readNamed('--key', keyFile);
  const wrong = mismatch(certPem, keyPem);
  if (wrong === 'certificate') throw new StartProblem(`--cert ${certFile} is not a certificate in PEM form.`);
  if (wrong === 'key') throw new StartProblem(`--key ${keyFile} is not an unencrypted private key in PEM form.`);
  if (wrong === 'pair') throw new StartProblem(`--key ${keyFile} does not belong to the certificate ${certFile}.`);
  return { certPem, keyPem, origin: 'given' };
}

function readNamed(option: string, file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    throw new StartProblem(`${option} ${file} cannot be read (${systemErrorCode(error) ?? String(error)}).`);
  }
}

function mismatch(certPem: string, keyPem: string): 'certificate' | 'key' | 'pair' | null {
  let certificate: X509Certificate;
  try {
    certificate = new X509Certificate(certPem);
  } catch {
    return 'certificate';
  }
  try {
    return certificate.checkPrivateKey(createPrivateKey(keyPem)) ? null : 'pair';
  } catch {
    return 'key';
  }
}
