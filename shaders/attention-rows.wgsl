// What the gradients of attention need of each query, beside its vectors.
//   rows[0,b,h,i] = lse[b,h,i];  rows[1,b,h,i] = dO[b,i,h]·o[b,i,h]
//   With DOCUMENTS rows[2,b,h,i] = documentStarts[b,i], of [BATCH,TIME], but no later than i. f32 holds it exactly below 2^24.
//   o, dO: [BATCH,TIME,HEADS,HEAD_SIZE], stored as STORED, f32 or f16; logSumExp: [BATCH,HEADS,TIME];
//   rows: [2 or 3,BATCH,HEADS,TIME]. COUNT = BATCH TIME HEADS; a workgroup owns 64 consecutive heads.
// The passes behind it read one binding instead of three or four, which leaves room for their own within eight.

@group(0) @binding(0) var<storage, read> o: array<vec4<STORED>>;
@group(0) @binding(1) var<storage, read> dO: array<vec4<STORED>>;
@group(0) @binding(2) var<storage, read> logSumExp: array<f32>;
@group(0) @binding(3) var<storage, read_write> rows: array<f32>;
#if DOCUMENTS
@group(0) @binding(4) var<storage, read> documentStarts: array<u32>;
#endif

@compute @workgroup_size(64)
fn prepare(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let index = (group.y * GROUPS_X + group.x) * 64u + lane;
  if (index >= COUNT) {
    return;
  }
  // Bounds that are no constants: software adapters would unroll the loop.
  let start = index * (HEAD_SIZE / 4u);
  var sum = 0.0;
  for (var d = start; d < start + HEAD_SIZE / 4u; d++) {
    sum += dot(vec4<f32>(dO[d]), vec4<f32>(o[d]));
  }
  let head = index % HEADS;
  let position = index / HEADS;
  let row = (position / TIME * HEADS + head) * TIME + position % TIME;
  rows[row] = logSumExp[row];
  rows[COUNT + row] = sum;
#if DOCUMENTS
  rows[2u * COUNT + row] = f32(min(documentStarts[position], position % TIME));
#endif
}
