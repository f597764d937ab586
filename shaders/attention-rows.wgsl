// What the gradients of attention need of each query, beside its vectors.
//   rows[0,b,h,i] = lse[b,h,i];  rows[1,b,h,i] = dO[b,i,h]·o[b,i,h]
//   With DOCUMENTS rows[2,b,h,i] = documentStarts[b,i], of [BATCH,TIME], but no later than i. f32 holds it exactly below 2^24.
//   o, dO: [BATCH,TIME,HEADS,HEAD_SIZE], stored as STORED, f32 or f16; logSumExp: [BATCH,HEADS,TIME];
//   rows: [2 or 3,BATCH,HEADS,TIME]. A workgroup owns 64 consecutive heads.
// BATCH, TIME, HEADS and HEAD_SIZE are fields of the uniform.
// The passes behind it read one binding instead of three or four, which leaves room for their own within eight.

struct Size {
  batch: u32,
  time: u32,
  heads: u32,
  keyHeads: u32,
  headSize: u32,
}

@group(0) @binding(0) var<storage, read> o: array<vec4<STORED>>;
@group(0) @binding(1) var<storage, read> dO: array<vec4<STORED>>;
@group(0) @binding(2) var<storage, read> logSumExp: array<f32>;
@group(0) @binding(3) var<storage, read_write> rows: array<f32>;
#if DOCUMENTS
@group(0) @binding(4) var<storage, read> documentStarts: array<u32>;
@group(0) @binding(5) var<uniform> size: Size;
#else
@group(0) @binding(4) var<uniform> size: Size;
#endif

@compute @workgroup_size(64)
fn prepare(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
           @builtin(local_invocation_index) lane: u32) {
  let count = size.batch * size.time * size.heads;
  let index = (group.y * groups.x + group.x) * 64u + lane;
  if (index >= count) {
    return;
  }
  let start = index * (size.headSize / 4u);
  var sum = 0.0;
  for (var d = start; d < start + size.headSize / 4u; d++) {
    sum += dot(vec4<f32>(dO[d]), vec4<f32>(o[d]));
  }
  let head = index % size.heads;
  let position = index / size.heads;
  let row = (position / size.time * size.heads + head) * size.time + position % size.time;
  rows[row] = logSumExp[row];
  rows[count + row] = sum;
#if DOCUMENTS
  rows[2u * count + row] = f32(min(documentStarts[position], position % size.time));
#endif
}
