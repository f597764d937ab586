// Rotary position embedding in the half-rotation layout: element i of a head's first half turns with element i of its
// second half, by the angle of position t and frequency i. INVERSE turns back, which is the gradient.
//
//   out[b,t,h,i]        = x[b,t,h,i] cos(t,i) - x[b,t,h,i+HALF] sin(t,i)
//   out[b,t,h,i+HALF]   = x[b,t,h,i+HALF] cos(t,i) + x[b,t,h,i] sin(t,i)
//
// x, out: [B, TIME, HEADS, 2 HALF], stored as STORED, f32 or f16; angles: [TIME, 2 HALF], cosines of a position, then its sines.
// COUNT = B TIME HEADS HALF pairs; a workgroup owns 64 consecutive pairs.

@group(0) @binding(0) var<storage, read> x: array<STORED>;
@group(0) @binding(1) var<storage, read> angles: array<f32>;
@group(0) @binding(2) var<storage, read_write> turned: array<STORED>;

@compute @workgroup_size(64)
fn rotate(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let pair = (group.y * GROUPS_X + group.x) * 64u + lane;
  if (pair >= COUNT) {
    return;
  }
  let i = pair % HALF;
  let head = pair / HALF;
  let position = head / HEADS % TIME;
  let cosine = angles[position * 2u * HALF + i];
#if INVERSE
  let sine = -angles[position * 2u * HALF + HALF + i];
#else
  let sine = angles[position * 2u * HALF + HALF + i];
#endif
  let first = f32(x[head * 2u * HALF + i]);
  let second = f32(x[head * 2u * HALF + HALF + i]);
  turned[head * 2u * HALF + i] = STORED(first * cosine - second * sine);
  turned[head * 2u * HALF + HALF + i] = STORED(second * cosine + first * sine);
}
