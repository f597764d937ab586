// Rows of a table by id, and the table's gradient without atomics.
//
//   gather:  y[n,d] = table[ids[n], d]
//   link:    links[n] = the next position with the same id, or COUNT;
//            links[COUNT + v] = the first position with id v; anything for an id that doesn't occur
//   sum:     dtable[v,d] += sum over positions n with ids[n] = v of dy[n,d], in the order of n
//
// ids: [COUNT]; links: [COUNT + V]; y, dy: [COUNT, WIDTH]. table and dtable hold rows FIRST_ROW to END_ROW - 1 of [V, WIDTH]:
// ids outside are another dispatch's. gather: a workgroup owns 64 consecutive elements.
// link: one workgroup owns everything and goes through blocks of BLOCK positions from the last to the first, so that what it
// searches is one block in workgroup memory, and a table says where an id occurs next behind that block.
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

const BLOCK = 256u;
var<workgroup> blockIds: array<u32, BLOCK>;

@compute @workgroup_size(BLOCK)
fn link(@builtin(local_invocation_index) lane: u32) {
  for (var end = (COUNT + BLOCK - 1u) / BLOCK * BLOCK; end > 0u; end -= BLOCK) {
    let start = end - BLOCK;
    let length = min(BLOCK, COUNT - start);
    let n = start + lane;
    if (lane < length) {
      blockIds[lane] = ids[n];
    }
    workgroupBarrier();
    let id = blockIds[lane];
    var isFirst = lane < length && id < END_ROW;
    if (isFirst) {
      var next = lane + 1u;
      while (next < length && blockIds[next] != id) {
        next++;
      }
      next += start;
      if (next == start + length) {
        next = behind(id, end);
      }
      newLinks[n] = next;
      var earlier = lane;
      while (earlier > 0u && blockIds[earlier - 1u] != id) {
        earlier--;
      }
      isFirst = earlier == 0u;
    }
    // Nobody may change the table or the block while others read them.
    storageBarrier();
    workgroupBarrier();
    if (isFirst) {
      newLinks[COUNT + id] = n;
    }
    storageBarrier();
  }
}

// Where an id occurs first from `end` on. The table starts as anything, but if what it says is a place of that id behind the
// block, then the block around that place has written it.
fn behind(id: u32, end: u32) -> u32 {
  let place = newLinks[COUNT + id];
  if (place >= end && place < COUNT && ids[place] == id) {
    return place;
  }
  return COUNT;
}

@compute @workgroup_size(64)
fn sum(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let linear = group.y * GROUPS_X + group.x;
  let n = linear / COLUMN_GROUPS;
  let d = linear % COLUMN_GROUPS * 64u + lane;
  if (n >= COUNT || d >= WIDTH) {
    return;
  }
  let id = ids[n];
  if (id < FIRST_ROW || id >= END_ROW || links[COUNT + id] != n) {
    return;
  }
  var total = 0.0;
  for (var position = n; position < COUNT; position = links[position]) {
    total += dy[position * WIDTH + d];
  }
  let place = (id - FIRST_ROW) * WIDTH + d;
  dtable[place] = dtable[place] + total;
}
