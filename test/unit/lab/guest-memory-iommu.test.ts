/** A guest whose document says nothing of its memory has as much as its rings, buffers and the tables of its IOMMU take. */
import assert from 'node:assert/strict';
import { test } from 'vitest';
import { parseTopology } from '../../../src/lab/document.ts';
import { World } from '../../../src/lab/world.ts';

test.each(['passthrough', 'strict', 'lazy'])('%s: tables are for memory that is larger than the least', (mode) => {
  const features = { VIRTIO_NET_F_MRG_RXBUF: false };
  const nics = [
    { name: 'net0', queueSize: 1024, queuePairs: 3, features },
    { name: 'net1', queueSize: 256, queuePairs: 2 },
  ];
  const guests = [{ name: 'a', vcpus: 3, iommu: { mode }, nics }];
  const recorder = { events: 16_384, bytes: '256KiB' };
  const parsed = parseTopology({ recorder, hosts: [{ guests }] }, { name: 't' });
  assert.ok(parsed.ok, parsed.ok ? '' : JSON.stringify(parsed.faults));
  assert.equal(new World(parsed.topology).failed, null);
});
