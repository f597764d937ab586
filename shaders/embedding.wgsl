// Rows of a table by id, and the table's gradient without atomics.
//
//   gather:  y[n,d] = table[ids[n], d]
//   link:    links[n] = 1 where no earlier position has the same id, else 0;
//            links[COUNT + n] = the next position with the same id, or COUNT
//   sum:     dtable[v,d] += sum over positions n with ids[n] = v of dy[n,d], in the order of n
//
// ids: [COUNT]; links: [2 COUNT]; y, dy: [COUNT, WIDTH]. table and dtable hold rows FIRST_ROW to END_ROW - 1 of [V, WIDTH]:
// ids outside are another dispatch's. gather and link: a workgroup owns 64 consecutive elements, or positions.
// sum: a workgroup owns 64 columns of one position and does something only if its id appears there first.

@group(0) @binding(0) var<storage, read> ids: array<u32>;
@group(0) @binding(1) var<storage, read> table: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(0) @binding(1) var<storage, read_write> newLinks: array<u32>;
@group(0) @binding(1) var<storage, read> links: array<u32>;
@group(0) @binding(2) var<storage, read> dy: array<f32>;
@group(0) @binding(3) var<storage, read_write> dtable: array<f32>;

@compute @workgroup_size(64)
fn gather(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = (group.y * GROUPS_X + group.x) * 64u + lane;
  if (i >= COUNT * WIDTH) {
    return;
  }
  let id = ids[i / WIDTH];
  if (id >= FIRST_ROW && id < END_ROW) {
    y[i] = table[(id - FIRST_ROW) * WIDTH + i % WIDTH];
  }
}

@compute @workgroup_size(64)
fn link(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let n = (group.y * GROUPS_X + group.x) * 64u + lane;
  if (n >= COUNT) {
    return;
  }
  let id = ids[n];
  var earlier = 0u;
  while (earlier < n && ids[earlier] != id) {
    earlier++;
  }
  var next = n + 1u;
  while (next < COUNT && ids[next] != id) {
    next++;
  }
  newLinks[n] = select(0u, 1u, earlier == n);
  newLinks[COUNT + n] = next;
}

@compute @workgroup_size(64)
fn sum(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let linear = group.y * GROUPS_X + group.x;
  let n = linear / COLUMN_GROUPS;
  let d = linear % COLUMN_GROUPS * 64u + lane;
  if (n >= COUNT || d >= WIDTH || links[n] == 0u) {
    return;
  }
  let id = ids[n];
  if (id < FIRST_ROW || id >= END_ROW) {
    return;
  }
  var total = 0.0;
  for (var position = n; position < COUNT; position = links[COUNT + position]) {
    total += dy[position * WIDTH + d];
  }
  let place = (id - FIRST_ROW) * WIDTH + d;
  dtable[place] = dtable[place] + total;
}
