// Puts the keys and values of new positions behind those that a cache holds.
//   keyCache[first + i] = keys[i], valueCache[first + i] = values[i]  for i < count, while first + i < capacity
//   keys, values: [ROWS, WIDTH] f32; the caches: [capacity, WIDTH]; span: [first, count].
// WIDTH = key heads · head size, in quads. A workgroup owns 64 consecutive quads of the new rows.

struct Size {
  rows: u32,
  widthQuads: u32,
  capacity: u32,
}

@group(0) @binding(0) var<storage, read> keys: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> values: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> span: array<u32>;
@group(0) @binding(3) var<storage, read_write> keyCache: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> valueCache: array<vec4<f32>>;
@group(0) @binding(5) var<uniform> size: Size;

@compute @workgroup_size(64)
fn append(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
          @builtin(local_invocation_index) lane: u32) {
  let quad = (group.y * groups.x + group.x) * 64u + lane;
  let row = quad / size.widthQuads;
  let position = span[0] + row;
  if (row >= min(size.rows, span[1]) || position >= size.capacity) {
    return;
  }
  let to = position * size.widthQuads + quad % size.widthQuads;
  keyCache[to] = keys[quad];
  valueCache[to] = values[quad];
}
