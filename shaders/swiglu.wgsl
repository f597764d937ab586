// Gated linear unit with the sigmoid-weighted gate, forward and backward; s(g) = 1 / (1 + exp(-g)).
//
//   forward:   y[i] = gate[i] s(gate[i]) up[i]
//   backward:  dup[i] = dy[i] gate[i] s(gate[i])
//              dgate[i] = dy[i] up[i] s(gate[i]) (1 + gate[i] (1 - s(gate[i])))
//
// All tensors: [COUNT] of TYPE. A workgroup owns 64 consecutive elements.

@group(0) @binding(0) var<storage, read> gate: array<TYPE>;
@group(0) @binding(1) var<storage, read> up: array<TYPE>;
@group(0) @binding(2) var<storage, read_write> y: array<TYPE>;
@group(0) @binding(2) var<storage, read> dy: array<TYPE>;
@group(0) @binding(3) var<storage, read_write> dgate: array<TYPE>;
@group(0) @binding(4) var<storage, read_write> dup: array<TYPE>;

// exp overflows past 88, where the sigmoid is zero to all digits anyway.
fn sigmoid(value: f32) -> f32 {
  return 1.0 / (1.0 + exp(min(-value, 80.0)));
}

@compute @workgroup_size(64)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = (group.y * GROUPS_X + group.x) * 64u + lane;
  if (i < COUNT) {
    let g = f32(gate[i]);
    y[i] = TYPE(g * sigmoid(g) * f32(up[i]));
  }
}

@compute @workgroup_size(64)
fn backward(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = (group.y * GROUPS_X + group.x) * 64u + lane;
  if (i < COUNT) {
    let g = f32(gate[i]);
    let u = f32(up[i]);
    let arriving = f32(dy[i]);
    let s = sigmoid(g);
    dgate[i] = TYPE(arriving * u * s * (1.0 + g * (1.0 - s)));
    dup[i] = TYPE(arriving * g * s);
  }
}
