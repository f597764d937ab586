/** What is decided before anything listens: options, certificate, addresses, relay credentials, QR code. */
import { X509Certificate } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { defaultPort, parseArguments } from '../../signaling/args.ts';
import { certificateCovers, configDirectory, givenCertificate, keptCertificate, makeCertificate } from '../../signaling/certificate.ts';
import { ipBytes, machineNames } from '../../signaling/machine.ts';
import { qrText } from '../../signaling/qr.ts';
import { RateLimiter } from '../../signaling/limits.ts';
import { iceServers, turnCredentials, turnLifetimeSeconds } from '../../signaling/turn.ts';

const dayMs = 24 * 3600 * 1000;
let folder: string;
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'cotrain-'));
});
afterEach(() => {
  rmSync(folder, { recursive: true });
});

describe('options', () => {
  it('have defaults that need nothing else', () => {
    expect(parseArguments([])).toEqual({ help: false, port: defaultPort, host: null, cert: null, key: null, turnUrls: [], turnSecret: null, stunUrls: [] });
  });

  it('are all read', () => {
    const argv = ['--port', '9000', '--host=127.0.0.1', '--cert', 'c.pem', '--key', 'k.pem', '--turn-url', 'turn:a:3478', '--turn-url', 'turns:b?transport=tcp', '--turn-secret', 's', '--stun-url', 'stun:c'];
    expect(parseArguments(argv)).toEqual({
      help: false,
      port: 9000,
      host: '127.0.0.1',
      cert: 'c.pem',
      key: 'k.pem',
      turnUrls: ['turn:a:3478', 'turns:b?transport=tcp'],
      turnSecret: 's',
      stunUrls: ['stun:c'],
    });
  });

  it.each([
    [['--prot', '1'], /--prot/],
    [['--port'], /--port/],
    [['--port', 'http'], /--port must be a number from 0 to 65535, not "http"/],
    [['--port', '65536'], /65535/],
    [['--port', '-1'], /--port/],
    [['serve'], /serve/],
    [['--cert', 'c.pem'], /--key is missing/],
    [['--key', 'k.pem'], /--cert is missing/],
    [['--turn-url', 'turn:a'], /needs --turn-secret/],
    [['--turn-secret', 's'], /needs --turn-url/],
    [['--turn-url', 'https://a', '--turn-secret', 's'], /--turn-url must look like/],
    [['--stun-url', 'turn:a'], /--stun-url must look like/],
    [['--host', ''], /--host is empty/],
  ])('that are wrong are named in one line: %j', (argv, message) => {
    expect(() => parseArguments(argv)).toThrow(message);
    expect(() => parseArguments(argv)).toThrow(/^[^\n]+$/);
  });
});

describe('a certificate made here', () => {
  const names = ['localhost', 'box', 'box.local', '127.0.0.1', '::1', '192.168.1.20', 'fd12:3456:789a::42', 'fe80::1ff:fe23:4567:890a'];
  const now = new Date('2026-11-22T10:00:00Z');

  it('names every host and address, and only those', () => {
    const certificate = new X509Certificate(makeCertificate(names, now).certPem);
    const written = (certificate.subjectAltName ?? '').split(', ');
    expect(written.filter((name) => name.startsWith('DNS:'))).toEqual(['DNS:localhost', 'DNS:box', 'DNS:box.local']);
    expect(written).toHaveLength(names.length);
    for (const address of names.slice(3)) expect(certificate.checkIP(address), address).toBe(address);
    expect(certificate.checkIP('192.168.1.21')).toBeUndefined();
    expect(certificate.checkHost('elsewhere')).toBeUndefined();
  });

  it('is a self-signed server certificate within the lifetime that browsers accept', () => {
    const { certPem } = makeCertificate(names, now);
    const certificate = new X509Certificate(certPem);
    expect(certificate.verify(certificate.publicKey)).toBe(true);
    expect(certificate.checkIssued(certificate)).toBe(true);
    expect(certificate.ca).toBe(false);
    expect(certificate.keyUsage).toEqual(['1.3.6.1.5.5.7.3.1']);
    expect(Date.parse(certificate.validTo) - Date.parse(certificate.validFrom)).toBeLessThanOrEqual(398 * dayMs);
    expect(certificate.publicKey.asymmetricKeyDetails?.namedCurve).toBe('prime256v1');
    expect(certificate.serialNumber).not.toBe(new X509Certificate(makeCertificate(names, now).certPem).serialNumber);
  });

  it('dates past 2049 are written in the form that those need', () => {
    const certificate = new X509Certificate(makeCertificate(names, new Date('2049-06-01T00:00:00Z')).certPem);
    expect(new Date(certificate.validTo).getUTCFullYear()).toBe(2050);
  });

  it('is kept, readable by its owner alone, and used again', () => {
    const first = keptCertificate(folder, names, now);
    expect(first.warning).toBeNull();
    expect(statSync(path.join(folder, 'certificate.pem')).mode & 0o777).toBe(0o600);
    expect(keptCertificate(folder, names.slice(2), now).certificate.certPem).toBe(first.certificate.certPem);
  });

  it('is made again for a new address, before it ends, and when the kept one is damaged', () => {
    const first = keptCertificate(folder, names, now).certificate;
    const moved = keptCertificate(folder, [...names, '10.9.8.7'], now).certificate;
    expect(moved.certPem).not.toBe(first.certPem);
    expect(certificateCovers(moved.certPem, ['10.9.8.7'], now)).toBe(true);
    const later = new Date(now.getTime() + 390 * dayMs);
    expect(keptCertificate(folder, names, later).certificate.certPem).not.toBe(moved.certPem);
    const file = path.join(folder, 'certificate.pem');
    writeFileSync(file, readFileSync(file, 'utf8').slice(0, 300));
    expect(certificateCovers(keptCertificate(folder, names, later).certificate.certPem, names, later)).toBe(true);
  });

  it('works without a place to keep it, and says so', () => {
    const file = path.join(folder, 'not-a-folder');
    writeFileSync(file, '');
    const { certificate, warning } = keptCertificate(path.join(file, 'cotrain'), names, now);
    expect(certificateCovers(certificate.certPem, names, now)).toBe(true);
    expect(warning).toMatch(/could not be kept/);
  });
});

describe('a given certificate', () => {
  it('is taken with its key, and every way of being wrong is named', () => {
    const one = makeCertificate(['localhost'], new Date());
    const other = makeCertificate(['localhost'], new Date());
    const write = (name: string, text: string): string => {
      const file = path.join(folder, name);
      writeFileSync(file, text);
      return file;
    };
    const cert = write('cert.pem', one.certPem);
    const key = write('key.pem', one.keyPem);
    const otherKey = write('other.pem', other.keyPem);
    const text = write('text.pem', 'not pem');
    expect(givenCertificate(cert, key)).toEqual({ certPem: one.certPem, keyPem: one.keyPem, origin: 'given' });
    expect(() => givenCertificate(path.join(folder, 'absent.pem'), key)).toThrow(/--cert .*absent\.pem cannot be read \(ENOENT\)/);
    expect(() => givenCertificate(cert, folder)).toThrow(/--key .* cannot be read \(EISDIR\)/);
    expect(() => givenCertificate(text, key)).toThrow(/not a certificate/);
    expect(() => givenCertificate(cert, text)).toThrow(/not an unencrypted private key/);
    expect(() => givenCertificate(cert, otherKey)).toThrow(/does not belong to/);
  });
});

describe('the machine’s names', () => {
  const entry = (address: string, family: 'IPv4' | 'IPv6', internal = false) =>
    ({ address, family, internal, netmask: '', mac: '', cidr: null, ...(family === 'IPv6' ? { scopeid: 0 } : {}) }) as never;

  it('offer other machines what they can open, and certify everything', () => {
    const names = machineNames(
      {
        lo: [entry('127.0.0.1', 'IPv4', true), entry('::1', 'IPv6', true)],
        wifi: [entry('fe80::1%wifi', 'IPv6'), entry('2001:db8::5', 'IPv6'), entry('192.168.1.20', 'IPv4'), entry('169.254.3.4', 'IPv4')],
      },
      'Ada.example',
    );
    expect(names.lanAddresses).toEqual(['192.168.1.20', '2001:db8::5']);
    expect(names.certificateNames).toEqual(['localhost', 'ada.example', 'ada.local', '127.0.0.1', '::1', 'fe80::1', '2001:db8::5', '192.168.1.20', '169.254.3.4']);
  });

  it('leave out a host name that no certificate can carry', () => {
    expect(machineNames({}, 'my_box!').certificateNames).toEqual(['localhost', '127.0.0.1', '::1']);
  });

  it('are written as bytes in every form an address takes', () => {
    expect([...ipBytes('10.0.255.1')]).toEqual([10, 0, 255, 1]);
    expect(ipBytes('::1').toString('hex')).toBe('00000000000000000000000000000001');
    expect(ipBytes('2001:db8::ff00:42').toString('hex')).toBe('20010db80000000000000000ff000042');
    expect(ipBytes('::ffff:1.2.3.4').toString('hex')).toBe('00000000000000000000ffff01020304');
  });

  it('are kept where the system wants settings kept', () => {
    expect(configDirectory({ XDG_CONFIG_HOME: '/x' }, 'linux')).toBe('/x/cotrain');
    expect(configDirectory({}, 'linux')).toMatch(/\/\.config\/cotrain$/);
    expect(configDirectory({}, 'darwin')).toMatch(/Library\/Application Support\/cotrain$/);
  });
});

describe('relay credentials', () => {
  it('are HMAC-SHA1 over the user name, as coturn computes them', () => {
    // From: printf '1893456000:cotrain' | openssl dgst -sha1 -hmac north -binary | base64
    expect(turnCredentials('north', 'cotrain', 1_893_456_000)).toEqual({ username: '1893456000:cotrain', credential: 'qhuSERqY0uAO6Q3f9ARFQoAllZ8=' });
  });

  it('appear only when asked for, and end by themselves', () => {
    expect(iceServers({ turnUrls: [], turnSecret: null, stunUrls: [] }, 0)).toEqual([]);
    const servers = iceServers({ turnUrls: ['turn:r'], turnSecret: 's', stunUrls: ['stun:s'] }, 5_000_000);
    expect(servers.map((server) => server.urls)).toEqual([['stun:s'], ['turn:r']]);
    expect(servers[1]?.username).toBe(`${5000 + turnLifetimeSeconds}:cotrain`);
  });
});

describe('the rate limiter', () => {
  it('lets a burst through, then the steady rate, for each address by itself', () => {
    const limiter = new RateLimiter(3, 2);
    expect([0, 0, 0, 0].map((at) => limiter.allows('a', at))).toEqual([true, true, true, false]);
    expect(limiter.allows('b', 0)).toBe(true);
    expect([limiter.allows('a', 400), limiter.allows('a', 500), limiter.allows('a', 500)]).toEqual([false, true, false]);
  });
});

describe('the QR code', () => {
  it('is the same picture on a terminal with colours and on one without', () => {
    const modules = (text: string, dark: boolean): string[] =>
      text
        .replaceAll('\u001b[30;107m', '')
        .replaceAll('\u001b[0m', '')
        .replace(/\n$/, '')
        .split('\n')
        .flatMap((line) => ['▀', '▄'].map((half) => Array.from(line).map((cell) => ((cell === '█' || cell === half) === dark ? '1' : '0')).join('')));
    const coloured = modules(qrText('https://192.168.1.20:8443', true), true);
    const plain = modules(qrText('https://192.168.1.20:8443', false), false);
    expect(coloured.slice(0, -1).join('\n').replaceAll('0', ' ')).toBe(plain.slice(0, -1).join('\n').replaceAll('0', ' '));
    // The finder pattern's top edge: seven dark modules after two light ones.
    expect(coloured[2]?.startsWith('0011111110')).toBe(true);
  });
});
