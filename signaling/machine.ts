/** What this machine is called and where it can be reached, as its own network interfaces say. Asks no other machine. */
import { hostname, networkInterfaces } from 'node:os';
import { isIPv4 } from 'node:net';

export interface MachineNames {
  /** Every address of every interface, loopback too, without IPv6 zones. */
  readonly addresses: readonly string[];
  /** Addresses that other machines of the network can open: IPv4 first. Link-local IPv6 needs a zone and can't be typed. */
  readonly lanAddresses: readonly string[];
  /** For a certificate: localhost, the host's name with and without `.local`, and every address. */
  readonly certificateNames: readonly string[];
}

export function machineNames(
  interfaces: ReturnType<typeof networkInterfaces> = networkInterfaces(),
  host: string = hostname(),
): MachineNames {
  const addresses: string[] = [];
  const lan4: string[] = [];
  const lan6: string[] = [];
  for (const entry of Object.values(interfaces).flatMap((entries) => entries ?? [])) {
    const address = entry.address.split('%')[0] ?? entry.address;
    if (addresses.includes(address)) continue;
    addresses.push(address);
    if (entry.internal) continue;
    if (entry.family === 'IPv4' && !address.startsWith('169.254.')) lan4.push(address);
    if (entry.family === 'IPv6' && !/^fe[89ab]/i.test(address)) lan6.push(address);
  }
  const names = ['localhost'];
  const plainHost = host.toLowerCase();
  if (isDnsName(plainHost) && !names.includes(plainHost)) names.push(plainHost);
  const shortHost = plainHost.split('.')[0] ?? '';
  const multicastHost = `${shortHost}.local`;
  if (isDnsName(multicastHost) && shortHost !== 'localhost' && !names.includes(multicastHost)) names.push(multicastHost);
  for (const loopback of ['127.0.0.1', '::1']) if (!addresses.includes(loopback)) addresses.push(loopback);
  return { addresses, lanAddresses: [...lan4, ...lan6], certificateNames: [...names, ...addresses] };
}

/** Host names may hold anything; certificates may not. */
function isDnsName(name: string): boolean {
  return name.length <= 253 && name.split('.').every((label) => /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/.test(label));
}

/** Network-order bytes of an address: 4 of IPv4, 16 of IPv6 (RFC 4291 §2.2, `::` and a dotted tail included). */
export function ipBytes(address: string): Buffer {
  if (isIPv4(address)) return Buffer.from(address.split('.').map(Number));
  // The URL parser writes every form of an address as groups of hexadecimal digits, a dotted tail too.
  const groupsOnly = new URL(`http://[${address}]`).hostname.slice(1, -1);
  const [head = '', tail] = groupsOnly.split('::');
  const groups = (text: string): number[] => (text === '' ? [] : text.split(':').map((group) => Number.parseInt(group, 16)));
  const front = groups(head);
  const back = tail === undefined ? [] : groups(tail);
  const all = [...front, ...Array.from({ length: 8 - front.length - back.length }, () => 0), ...back];
  return Buffer.from(all.flatMap((group) => [group >> 8, group & 0xff]));
}

/** An address as it stands in a URL. */
export function urlHost(address: string): string {
  return address.includes(':') ? `[${address}]` : address;
}
