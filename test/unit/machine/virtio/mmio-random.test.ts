/** virtio-mmio under any sequence of events and accesses; the single rules are in mmio-device.test.ts. */

import assert from 'node:assert/strict';
import fc from 'fast-check';
import { describe, test } from 'vitest';
import { LINUX_6_1_VIRTIO_NET_FEATURES, probeVirtioMmio } from '../../../../src/machine/guest/probe/virtio-probe.ts';
import { VirtioMmioDevice } from '../../../../src/machine/virtio/mmio-transport.ts';
import type { VirtioHooks } from '../../../../src/machine/virtio/virtio-device.ts';
import { virtio_mmio as M } from '../../../../src/machine/wire/virtio-mmio.ts';
import { BASIC_NET_FEATURES } from './basic-features.ts';

const MAC = [0x52, 0x54, 0x00, 0x12, 0x34, 0x56];
const make = (hooks: VirtioHooks = {}): VirtioMmioDevice =>
  new VirtioMmioDevice({
    mac: MAC,
    offered: BASIC_NET_FEATURES,
    queueSizes: [256, 256],
    hooks,
    address: 0xfd00_0000,
    irq: 24,
  });
function boot(device: VirtioMmioDevice): VirtioMmioDevice {
  let next = 0x10_0000;
  const result = probeVirtioMmio(device, { alloc: () => (next += 0x4000) }, LINUX_6_1_VIRTIO_NET_FEATURES);
  assert.equal(result.failed, undefined);
  return device;
}
const REGISTERS = Object.values(M);

describe('virtio-mmio', () => {
  test('a bit of InterruptStatus stays until it is acknowledged, the line with it, and there are two bits', () => {
    const what = fc.constantFrom('queue', 'config', 'ack 0', 'ack 1', 'ack 2', 'ack 3', 'ack 4', 'ack all');
    fc.assert(
      fc.property(fc.array(what, { maxLength: 40 }), (steps) => {
        let level = false;
        const d = make({
          onIntx: (asserted) => {
            assert.notEqual(asserted, level, 'only changes are told');
            level = asserted;
          },
        });
        boot(d);
        let model = 0;
        let up = true;
        for (const step of steps) {
          if (step === 'queue') {
            d.notifyQueue(1);
            model |= 1;
          } else if (step === 'config') {
            up = !up;
            d.setLinkUp(up);
            model |= 2;
          } else {
            const ack = step === 'ack all' ? 0xffff_ffff : Number(step.slice(4));
            d.write(M.INTERRUPT_ACK, 4, ack);
            model &= ~ack;
          }
          assert.equal(d.read(M.INTERRUPT_STATUS, 4), model);
          assert.equal(level, model !== 0);
          assert.equal(d.asserted, level);
        }
      }),
    );
  });

  test('any accesses: nothing throws, values fit, the line is what InterruptStatus says', () => {
    const access = fc.record({
      write: fc.boolean(),
      at: fc.oneof(fc.nat(0x210), fc.constantFrom(...REGISTERS, -1, 0.5, 2 ** 40)),
      width: fc.constantFrom(1, 2, 4, 4, 4, 8, 0),
      value: fc.oneof(fc.nat(0xffff_ffff), fc.constantFrom(0, 1, 2, 3, 0xb, 0xf, -1, Number.NaN, 2 ** 53)),
    });
    fc.assert(
      fc.property(fc.boolean(), fc.array(access, { maxLength: 200, size: 'max' }), (started, accesses) => {
        const d = started ? boot(make()) : make();
        for (const { write, at, width, value } of accesses) {
          if (write) d.write(at, width, value);
          else {
            const v = d.read(at, width);
            assert.ok(Number.isInteger(v) && v >= 0 && v < 2 ** 32);
          }
          d.notifyQueue(at & 3);
          assert.ok((d.interruptStatus & ~3) === 0 && d.asserted === (d.interruptStatus !== 0));
          for (const q of d.queues) assert.ok(!q.enabled || (q.descGpa % 16 === 0 && q.size <= q.maxSize));
        }
      }),
      { numRuns: 300, verbose: 1 },
    );
  });
});
