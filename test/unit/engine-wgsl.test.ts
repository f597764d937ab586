import { describe, expect, test } from 'vitest';
import { bindingsOf, canMerge, isolateEntryPoint, mergeBinding, specialise, widenAccess } from '../../src/engine/wgsl.ts';

describe('specialise', () => {
  test('puts typed constants in front, behind directives', () => {
    const text = specialise('enable f16;\nfn f() {}', { ROWS: 3, EPSILON_F: 1e-6, SCALE_F: 2, FAST: true });
    expect(text).toMatchInlineSnapshot(`
      "enable f16;
      const ROWS: u32 = 3u;
      const EPSILON_F: f32 = 9.999999974752427e-7f;
      const SCALE_F: f32 = 2f;
      const FAST: bool = true;
      fn f() {}"
    `);
  });

  test('puts the type that a binding stores where its name stands, and asks for f16 where it is one', () => {
    const source = 'var<storage, read> x: array<X_TYPE>;\nlet y = f32(x[0]); let X_TYPED = 1;';
    expect(specialise(source, { X_TYPE: 'f16' })).toBe('enable f16;\nvar<storage, read> x: array<f16>;\nlet y = f32(x[0]); let X_TYPED = 1;');
    expect(specialise(source, { X_TYPE: 'f32' })).toContain('array<f32>');
    expect(specialise(source, { X_TYPE: 'f32' })).not.toContain('enable');
  });

  test('keeps the branch that a flag chooses, nested ones too', () => {
    const source = '#if A\na\n#if B\nab\n#else\nanotb\n#endif\n#else\nnota\n#if !B\nneither\n#endif\n#endif\nend';
    const kept = (A: boolean, B: boolean) => specialise(source, { A, B }).split('\n').slice(2).join(' ');
    expect([kept(true, true), kept(true, false), kept(false, true), kept(false, false)]).toEqual([
      'a ab end',
      'a anotb end',
      'nota end',
      'nota neither end',
    ]);
  });

  test('asks for no flag in a branch that is left out', () => {
    const source = '#if A\n#if INNER\nx\n#else\ny\n#endif\n#else\nz\n#endif';
    expect(specialise(source, { A: false })).toBe('const A: bool = false;\nz');
    expect(() => specialise(source, { A: true })).toThrow(/INNER/);
  });

  test.each([
    ['a fraction that is not marked as f32', 'x', { SCALE: 0.5 }, /SCALE is 0.5.*ends in _F/],
    ['a negative u32', 'x', { COUNT: -1 }, /COUNT is -1/],
    ['infinity', 'x', { SCALE_F: Number.POSITIVE_INFINITY }, /SCALE_F is Infinity/],
    ['an unknown flag', '#if MISSING\n#endif', {}, /MISSING/],
    ['an #if left open', '#if A\nx', { A: true }, /without #endif/],
    ['an #endif too many', '#endif', {}, /without #if/],
  ])('refuses %s', (_name, source, constants, message) => {
    expect(() => specialise(source, constants)).toThrow(message);
  });
});

const source = `
@group(0) @binding(0) var<storage, read> x: array<f32>; // x and y
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(1) var<storage, read> z: array<f32>;
@group(0) @binding(2) var<uniform> u: vec4f;
fn helper(i: u32) -> f32 { return x[i]; }
@compute @workgroup_size(1) fn one(@builtin(workgroup_id) id: vec3u) { y[id.x] = helper(id.x); }
@compute @workgroup_size(1) fn two(@builtin(workgroup_id) id: vec3u) { let helper = id.y; _ = z[helper] + u.x; }
`;

describe('bindings of an entry point', () => {
  test('are those it touches itself or through functions, not what only shares a name with a member', () => {
    expect(bindingsOf(source, 'one').map(({ name, access }) => [name, access])).toEqual([
      ['x', 'read'],
      ['y', 'read_write'],
    ]);
    expect(bindingsOf(source, 'two').map(({ name, access }) => [name, access])).toEqual([
      ['z', 'read'],
      ['u', 'uniform'],
    ]);
  });

  test('can be widened and merged', () => {
    expect(widenAccess(source, new Set([0]))).toContain('@binding(0) var<storage, read_write> x:');
    const [x, y] = bindingsOf(source, 'one');
    if (!x || !y) throw new Error('two bindings');
    expect(canMerge(source, x, y)).toBe(true);
    const merged = mergeBinding(source, x, y);
    expect(merged).not.toContain('@binding(0)');
    expect(merged).toContain('return y[i]');
    expect(merged).toContain('let helper = id.y; _ = z[helper] + u.x');
  });

  test('are not merged where a local would capture the name', () => {
    const [x, y] = bindingsOf(source, 'one');
    if (!x || !y) throw new Error('two bindings');
    expect(canMerge(`${source} fn other(y: u32) {}`, x, y)).toBe(false);
    expect(canMerge(`${source} fn other() { let x = 1; }`, x, y)).toBe(false);
    expect(canMerge(source, x, { ...y, type: 'array<vec4f>' })).toBe(false);
  });
});

describe('a shader with several entry points', () => {
  const several = `
@group(0) @binding(0) var<storage, read> a: array<f32>;
fn shared(i: u32) -> f32 { if (i > 0u) { return a[i]; } return 0.0; }
@compute @workgroup_size(64) fn first() { _ = shared(1u); }
@compute @workgroup_size(8, 8)
fn second(@builtin(global_invocation_id) id: vec3u) { for (var i = 0u; i < 4u; i++) { _ = a[i]; } }
@compute @workgroup_size(1) fn third() { }
`;

  test('keeps the one that is asked for and every function beside it', () => {
    const alone = isolateEntryPoint(several, 'second');
    expect(alone).toContain('fn shared');
    expect(alone).toContain('fn second');
    expect(alone).not.toMatch(/fn (first|third)/);
    expect(alone.match(/@compute/g)).toHaveLength(1);
  });
});
