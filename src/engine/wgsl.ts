/**
 * WGSL as text: constants in front, `#if` lines, access modes, and which bindings an entry point touches.
 * It knows nothing of devices or buffers, and is no compiler: what is invalid WGSL stays invalid.
 *
 * Rules for shader files:
 * - a constant whose value is 'f32' or 'f16' is replaced by that type, wherever it stands, so that one text serves both; one
 *   whose name ends in `_F` is an f32; booleans are bool; every other number must be a whole number >= 0
 *   and is a u32;
 * - `#if NAME`, `#if !NAME`, `#else`, `#endif` stand on lines of their own; NAME is a boolean constant, which need not
 *   be given where an outer `#if` leaves the line out; they nest;
 * - `@group(0) @binding(n) var<storage, read> name: type;` on one line; one name may not be shadowed by a local or a
 *   parameter, and storage pointers are not passed to functions, so that accesses can be widened and merged.
 */
import { EngineError, invariant } from './errors.ts';
import type { ShaderConstants } from './op.ts';

export type BindingAccess = 'uniform' | 'read' | 'read_write';

export interface BindingDeclaration {
  readonly binding: number;
  readonly name: string;
  readonly access: BindingAccess;
  /** Type as written, without spaces. */
  readonly type: string;
}

const directivePattern = /^\s*(?:enable|requires|diagnostic)\b[^;]*;\s*$/;
const conditionPattern = /^\s*#(if|else|endif)\b\s*(!?)\s*(\w*)\s*(?:\/\/.*)?$/;
const bindingPattern =
  /(?:@group\(\s*0\s*\)\s*)?@binding\(\s*(\d+)\s*\)\s*(?:@group\(\s*0\s*\)\s*)?var<\s*(storage|uniform)\s*(?:,\s*(read_write|read)\s*)?>\s*(\w+)\s*:\s*([^;]+);/g;

/** Resolves `#if` lines and prepends the constants. Throws `EngineError` for unknown flags and ill-typed values. */
export function specialise(source: string, constants: ShaderConstants): string {
  const directives: string[] = [];
  const body: string[] = [];
  for (const line of resolveConditions(source, constants)) {
    (directivePattern.test(line) ? directives : body).push(line);
  }
  const declarations: string[] = [];
  let text = body.join('\n');
  for (const [name, value] of Object.entries(constants)) {
    if (typeof value !== 'string') declarations.push(declareConstant(name, value));
    else text = text.replaceAll(new RegExp(String.raw`\b${name}\b`, 'g'), value);
  }
  if (Object.values(constants).includes('f16')) directives.unshift('enable f16;');
  return [...directives, ...declarations, text].join('\n');
}

function declareConstant(name: string, value: number | boolean): string {
  if (typeof value === 'boolean') return `const ${name}: bool = ${value};`;
  invariant(Number.isFinite(value), () => `shader constant ${name} is ${value}`);
  if (name.endsWith('_F')) {
    const digits = String(Math.fround(value));
    return `const ${name}: f32 = ${digits}f;`;
  }
  invariant(
    Number.isInteger(value) && value >= 0 && value <= 0xffffffff,
    () => `shader constant ${name} is ${value}: a u32 is a whole number >= 0, and the name of an f32 ends in _F`,
  );
  return `const ${name}: u32 = ${value}u;`;
}

function resolveConditions(source: string, constants: ShaderConstants): string[] {
  const kept: string[] = [];
  const open: { readonly outer: boolean; condition: boolean }[] = [];
  const active = (): boolean => open.every((scope) => scope.outer && scope.condition);
  for (const line of source.split('\n')) {
    const match = conditionPattern.exec(line);
    if (!match) {
      if (active()) kept.push(line);
      continue;
    }
    const [, keyword, negation, name = ''] = match;
    if (keyword === 'if') {
      open.push({ outer: active(), condition: active() && isSet(name, constants) !== (negation === '!') });
      continue;
    }
    const scope = open.at(-1);
    if (!scope) throw new EngineError(`#${keyword ?? ''} without #if`);
    if (keyword === 'else') scope.condition = !scope.condition;
    else open.pop();
  }
  invariant(open.length === 0, () => '#if without #endif');
  return kept;
}

function isSet(name: string, constants: ShaderConstants): boolean {
  const value = constants[name];
  if (typeof value !== 'boolean') throw new EngineError(`#if ${name}: no boolean constant of that name is given`);
  return value;
}

/** The bindings that an entry point touches, itself or through the functions it calls, in order of their numbers. */
export function bindingsOf(source: string, entryPoint: string): readonly BindingDeclaration[] {
  const text = withoutComments(source);
  const functions = functionTexts(text);
  invariant(functions.has(entryPoint), () => `the shader has no entry point ${entryPoint}`);
  const reached = new Set<string>([entryPoint]);
  const identifiers = new Set<string>();
  for (const name of reached) {
    const body = functions.get(name) ?? '';
    for (const [identifier] of body.matchAll(/(?<![\w.])[A-Za-z_]\w*/g)) identifiers.add(identifier);
    for (const [, called = ''] of body.matchAll(/\b([A-Za-z_]\w*)\s*\(/g)) if (functions.has(called)) reached.add(called);
  }
  const declarations = new Map<number, BindingDeclaration>();
  for (const declaration of declaredBindings(text)) {
    if (!identifiers.has(declaration.name)) continue;
    const other = declarations.get(declaration.binding);
    invariant(
      other === undefined,
      () => `${entryPoint} uses ${other?.name ?? ''} and ${declaration.name}, both of binding ${declaration.binding}`,
    );
    declarations.set(declaration.binding, declaration);
  }
  return [...declarations.values()].sort((a, b) => a.binding - b.binding);
}

/**
 * The shader without its other entry points: they may use a binding's number for something else, and browsers check
 * every entry point of a module, called or not.
 */
export function isolateEntryPoint(source: string, entryPoint: string): string {
  let text = source;
  for (const match of [...source.matchAll(/@compute\s+@workgroup_size\([^)]*\)\s*fn\s+(\w+)/g)].reverse()) {
    if (match[1] === entryPoint) continue;
    text = text.slice(0, match.index) + text.slice(endOfBody(text, match.index));
  }
  return text;
}

/** Index just after the braces that open first at or after `from`. */
function endOfBody(text: string, from: number): number {
  let depth = 0;
  let end = text.indexOf('{', from);
  do {
    if (text[end] === '{') depth++;
    else if (text[end] === '}') depth--;
    end++;
  } while (depth > 0 && end < text.length);
  return end;
}

function declaredBindings(text: string): BindingDeclaration[] {
  return [...text.matchAll(bindingPattern)].map(([, binding, space, access, name, type]) => ({
    binding: Number(binding),
    name: name ?? '',
    access: space === 'uniform' ? 'uniform' : access === 'read_write' ? 'read_write' : 'read',
    type: (type ?? '').replaceAll(/\s/g, ''),
  }));
}

function withoutComments(source: string): string {
  return source.replaceAll(/\/\/[^\n]*|\/\*[\s\S]*?\*\//g, ' ');
}

/** Parameters and body of each function, by name. */
function functionTexts(text: string): Map<string, string> {
  const functions = new Map<string, string>();
  for (const match of text.matchAll(/\bfn\s+(\w+)/g)) {
    const start = match.index + match[0].length;
    functions.set(match[1] ?? '', text.slice(start, endOfBody(text, start)));
  }
  return functions;
}

/** Makes the given `read` bindings `read_write`, which a dispatch needs that also writes elsewhere in the same buffer. */
export function widenAccess(source: string, bindings: ReadonlySet<number>): string {
  return source.replaceAll(bindingPattern, (declaration: string, binding: string) =>
    bindings.has(Number(binding)) ? declaration.replace(/,\s*read\s*>/, ', read_write>') : declaration,
  );
}

/** Whether uses of one variable can be renamed to the other: same type, and no local or parameter of either name. */
export function canMerge(source: string, a: BindingDeclaration, b: BindingDeclaration): boolean {
  const text = withoutComments(source);
  const isShadowed = (name: string): boolean =>
    new RegExp(String.raw`\b(?:let|var|const)\s+${name}\b|[(,]\s*${name}\s*:`).test(text);
  return a.type === b.type && !isShadowed(a.name) && !isShadowed(b.name);
}

/** Removes a binding and lets its readers use another one, which is the same range of the same buffer. */
export function mergeBinding(source: string, removed: BindingDeclaration, kept: BindingDeclaration): string {
  return source
    .replaceAll(bindingPattern, (declaration: string, ...groups: (string | number | undefined)[]) =>
      groups[3] === removed.name && Number(groups[0]) === removed.binding ? '' : declaration,
    )
    .replaceAll(new RegExp(String.raw`(?<![\w.])${removed.name}\b`, 'g'), kept.name);
}
