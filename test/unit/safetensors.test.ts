import { describe, expect, it } from 'vitest';
import { flatFromTensors, tensorsFromFlat } from '../../src/checkpoint/hf-folder.ts';
import { readSafetensors, writeSafetensors } from '../../src/checkpoint/safetensors.ts';
import { parameterLayout } from '../../src/engine/layout.ts';

function file(header: unknown, data: Uint8Array = new Uint8Array(0), claimedLength?: number): Uint8Array {
  const json = new TextEncoder().encode(typeof header === 'string' ? header : JSON.stringify(header));
  const bytes = new Uint8Array(8 + json.length + data.length);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(claimedLength ?? json.length), true);
  bytes.set(json, 8);
  bytes.set(data, 8 + json.length);
  return bytes;
}

describe('safetensors', () => {
  const tensors = new Map([
    ['b.weight', { shape: [2, 3], data: Float32Array.of(1, -2, 3.5, 1e-40, -0, 1e30) }],
    ['a', { shape: [], data: Float32Array.of(7) }],
    ['empty', { shape: [0, 4], data: new Float32Array(0) }],
  ]);

  it('reads back what it writes, bit for bit', async () => {
    const read = await readSafetensors(writeSafetensors(tensors));
    expect([...read.keys()].sort()).toEqual(['a', 'b.weight', 'empty']);
    expect(read.get('b.weight')).toEqual(tensors.get('b.weight'));
    expect(read.get('a')?.data[0]).toBe(7);
  });

  it('reads a Node Buffer, whose slices share memory with it', async () => {
    const inside = Buffer.concat([Buffer.alloc(3), writeSafetensors(tensors)]).subarray(3);
    expect((await readSafetensors(inside)).get('b.weight')).toEqual(tensors.get('b.weight'));
  });

  it('writes names in order, says which framework reads it, and aligns the data', () => {
    const bytes = writeSafetensors(tensors);
    const headerLength = Number(new DataView(bytes.buffer).getBigUint64(0, true));
    const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + headerLength))) as object;
    expect(headerLength % 8).toBe(0);
    expect(Object.keys(header)).toEqual(['__metadata__', 'a', 'b.weight', 'empty']);
    expect(header).toMatchObject({ __metadata__: { format: 'pt' }, a: { dtype: 'F32', data_offsets: [0, 4] } });
  });

  it('reads bf16 and every kind of f16: normal, subnormal, zero, infinite', async () => {
    const halves = Uint16Array.of(0x3c00, 0xc000, 0x7bff, 0x0001, 0x03ff, 0x8000, 0x7c00, 0x0400);
    const bf16 = Uint16Array.of(0x3f80, 0xc020);
    const data = new Uint8Array([...new Uint8Array(halves.buffer), ...new Uint8Array(bf16.buffer)]);
    const read = await readSafetensors(
      file({ h: { dtype: 'F16', shape: [8], data_offsets: [0, 16] }, g: { dtype: 'BF16', shape: [2], data_offsets: [16, 20] } }, data),
    );
    expect([...(read.get('h')?.data ?? [])]).toEqual([1, -2, 65504, 2 ** -24, 1023 * 2 ** -24, -0, Infinity, 2 ** -14]);
    expect([...(read.get('g')?.data ?? [])]).toEqual([1, -2.5]);
  });

  const four = new Uint8Array(4);
  const entry = (changes: object) => ({ t: { dtype: 'F32', shape: [1], data_offsets: [0, 4], ...changes } });
  it.each([
    ['too few for a header', new Uint8Array(7)],
    ['the header claims', file({}, four, 1_000_000)],
    ['the header claims 9007199254740991', file({}, four, Number.MAX_SAFE_INTEGER)],
    ['not valid JSON', file('{"t":')],
    ['not a JSON object', file('[]')],
    ['t: dtype "I64" is not supported', file(entry({ dtype: 'I64' }), four)],
    ['t: shape [-1] is not a list of sizes', file(entry({ shape: [-1] }), four)],
    ['t: shape "1" is not', file(entry({ shape: '1' }), four)],
    ['t: data_offsets [4,0]', file(entry({ data_offsets: [4, 0] }), four)],
    ['t: data_offsets [0]', file(entry({ data_offsets: [0] }), four)],
    ['t: ends at byte 4000000000', file(entry({ shape: [1e9], data_offsets: [0, 4e9] }), four)],
    ['t: [2] in F32 takes 8 bytes, and it has 4', file(entry({ shape: [2] }), four)],
    ['t: [9007199254740991, 9007199254740991] in F32 takes', file(entry({ shape: [Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER] }), four)],
    ['u: starts at byte 0 and overlaps', file({ ...entry({}), u: { dtype: 'F32', shape: [1], data_offsets: [0, 4] } }, four)],
    ['t: starts at byte 4 and leaves a gap', file(entry({ data_offsets: [4, 8] }), new Uint8Array(8))],
    ['the tensors end at byte 4 of 5', file(entry({}), new Uint8Array(5))],
  ])('refuses a file with “%s”', async (message, bytes) => {
    await expect(readSafetensors(bytes)).rejects.toThrow(message);
  });
});

describe('weights of a folder', () => {
  const layout = parameterLayout([
    ['w', [2, 3]],
    ['n', [3]],
  ]);
  const w = { shape: [2, 3], data: Float32Array.of(1, 2, 3, 4, 5, 6) };
  const n = { shape: [3], data: Float32Array.of(7, 8, 9) };

  it('go into the flat buffer at their offsets and come out again', () => {
    const flat = flatFromTensors(layout, new Map([['w', w], ['n', n], ['lm_head.weight', w]]));
    expect([...flat.subarray(64, 67)]).toEqual([7, 8, 9]);
    expect([...tensorsFromFlat(layout, flat)]).toEqual([['w', w], ['n', n]]);
  });

  it.each([
    ['the weights lack n', new Map([['w', w]])],
    ['the config’s model has no x'.replace('’', "'"), new Map([['w', w], ['n', n], ['x', n]])],
    ['w is [3], and the config asks for [2, 3]', new Map([['w', n], ['n', n]])],
  ])('are refused when “%s”', (message, tensors) => {
    expect(() => flatFromTensors(layout, tensors)).toThrow(message);
  });
});
