// The rows of a sequence's keys, one by one: attention then finds key j of a sequence without a search.

struct KeyRows { u32* key_rows; const u32* starts; const u32* first_rows; u32 ranges; u32 none; };

// Range r gives key_rows[starts[r]..starts[r + 1]]: consecutive rows from first_rows[r], or `none`, where that is none.
// A warp a range: ranges are pages, or prompts and completions.
KERNEL(lay_out_keys, KeyRows, 256) {
    u32 r = blockIdx.x * 8 + threadIdx.x / 32;
    if (r >= p.ranges) return;
    u32 first = p.first_rows[r], start = p.starts[r], end = p.starts[r + 1];
    for (u32 i = start + threadIdx.x % 32; i < end; i += 32) p.key_rows[i] = first == p.none ? p.none : first + (i - start);
}
