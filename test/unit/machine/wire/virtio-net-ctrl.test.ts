import assert from 'node:assert/strict';
import { describe, it } from 'vitest';
import type { Struct } from '../../../../src/machine/wire/struct.ts';
import * as W from '../../../../src/machine/wire/virtio-net-ctrl.ts';

const layout = (s: object): string =>
  Object.entries(s as Struct<Record<string, never>>)
    .flatMap(([name, f]) => (typeof f === 'number' ? [] : [`${name}@${(f as { offset: number }).offset}`]))
    .join(' ');

describe('structures of the control queue', () => {
  // linux 6.15 include/uapi/linux/virtio_net.h; virtio 1.4 §5.1.9.5
  it('have the sizes and offsets of the C ones', () => {
    const sizes = [
      [W.virtio_net_ctrl_hdr, 2, 'class@0 cmd@1'],
      [W.virtio_net_rss_config, 8, 'hash_types@0 indirection_table_mask@4 unclassified_queue@6'],
      [W.virtio_net_hash_config, 13, 'hash_types@0 reserved@4 hash_key_length@12'],
      [W.virtio_net_ctrl_coal, 8, 'max_packets@0 max_usecs@4'],
      [W.virtio_net_ctrl_coal_vq, 12, 'vq_index@0 reserved@2 max_packets@4 max_usecs@8'],
      [W.virtio_net_ctrl_queue_stats, 16, 'vq_index@0 reserved@2 types_low@8 types_high@12'],
      [W.virtio_net_stats_reply_hdr, 8, 'type@0 reserved@1 vq_index@2 reserved1@4 size@6'],
    ] as const;
    for (const [s, size, fields] of sizes) assert.deepEqual([s.SIZE, layout(s)], [size, fields]);
  });
  it('read from bytes as they lie in memory', () => {
    const v = new DataView(Uint8Array.from([0x03, 0x00, 0xab, 0xcd, 0x4d, 0, 0, 0, 0xe8, 3, 0, 0]).buffer);
    const c = W.virtio_net_ctrl_coal_vq;
    assert.deepEqual([c.vq_index.get(v, 0), c.max_packets.get(v, 0), c.max_usecs.get(v, 0)], [3, 77, 1000]);
  });
  it('names of commands, numbers where there is none', () => {
    assert.equal(W.controlCommandName(1, 0), 'MAC TABLE_SET');
    assert.equal(W.controlCommandName(6, 3), 'NOTF_COAL VQ_GET');
    assert.equal(W.controlCommandName(0, 9), 'RX 9');
    assert.equal(W.controlCommandName(77, 1), '77 1');
  });
});
