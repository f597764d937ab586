/** Short names for what a dispatch binds, so that a list of bindings reads like the shader's declarations. */
import type { BindingRef } from '../op.ts';

export function input(index: number): BindingRef {
  return { kind: 'input', index };
}

export function output(index: number): BindingRef {
  return { kind: 'output', index };
}

export function scratch(index: number): BindingRef {
  return { kind: 'scratch', index };
}
