// Dropout with a mask that is a pure function of seed, site and element, so that backward recomputes it.
//
//   y[i] = x[i] SCALE_F where hash(seed, SITE, i) >= THRESHOLD, else 0
//
// x, y: [COUNT] of TYPE; seed: 4 x u32. A workgroup owns 64 consecutive elements.
// The mixing function is the 32-bit integer hash "lowbias32" of Chris Wellons' public-domain hash prospector.

@group(0) @binding(0) var<storage, read> x: array<TYPE>;
@group(0) @binding(1) var<storage, read> seed: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<TYPE>;

fn mixed(value: u32) -> u32 {
  var v = value;
  v = (v ^ (v >> 16u)) * 0x7feb352du;
  v = (v ^ (v >> 15u)) * 0x846ca68bu;
  return v ^ (v >> 16u);
}

@compute @workgroup_size(64)
fn dropout(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = (group.y * GROUPS_X + group.x) * 64u + lane;
  if (i >= COUNT) {
    return;
  }
  var key = mixed(SITE + 0x9e3779b9u);
  for (var word = 0u; word < 4u; word++) {
    key = mixed(key ^ seed[word]);
  }
  let bits = mixed(mixed(i ^ key) + mixed(key + 0x9e3779b9u));
  y[i] = TYPE(select(0.0, f32(x[i]) * SCALE_F, bits >= THRESHOLD));
}
