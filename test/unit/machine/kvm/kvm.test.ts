import assert from 'node:assert/strict';
import { describe, it } from 'vitest';
import { QEMU_TAP_OPEN, TUN_IOCTL_NAMES, TUNSETIFF } from '../../../../src/machine/host/tun-ioctls.ts';
import { memorySlots } from '../../../../src/machine/kvm/memory-slots.ts';

describe('ioctl numbers', () => {
  // linux include/uapi/asm-generic/ioctl.h: direction << 30 | size << 16 | type << 8 | number.
  const io = (dir: number, type: number, nr: number, size: number): number =>
    ((dir << 30) | (size << 16) | (type << 8) | nr) >>> 0;
  it('are what the macros make of them', () => {
    assert.equal(TUNSETIFF, io(1, 0x54, 0xca, 4));
    assert.ok(QEMU_TAP_OPEN.every((step) => TUN_IOCTL_NAMES.has(step.ioctl)));
    const named = [...new Set(QEMU_TAP_OPEN.map((step) => TUN_IOCTL_NAMES.get(step.ioctl)))];
    assert.deepEqual(named, [
      'TUNGETFEATURES',
      'TUNSETVNETHDRSZ',
      'TUNSETIFF',
      'TUNSETOFFLOAD',
      'TUNGETVNETHDRSZ',
      'TUNSETSNDBUF',
    ]);
  });
});

describe('memory slots', () => {
  it('leave the legacy hole out', () => {
    assert.deepEqual(memorySlots(16 * 1024 * 1024), [
      { slot: 0, gpa: 0, size: 0xa0000, offsetInRam: 0 },
      { slot: 1, gpa: 0xc0000, size: 0x1000000 - 0xc0000, offsetInRam: 0xc0000 },
    ]);
    assert.equal(memorySlots(0x80000).length, 1);
    assert.deepEqual(memorySlots(0xc0000), [{ slot: 0, gpa: 0, size: 0xa0000, offsetInRam: 0 }]);
    const big = memorySlots(2 * 1024 ** 3);
    assert.equal(big[1]!.gpa + big[1]!.size, 2 * 1024 ** 3);
  });
  it('refuses what no document may ask for', () => {
    for (const bytes of [0, -4096, 4095, 2 * 1024 ** 3 + 4096, Number.NaN])
      assert.throws(() => memorySlots(bytes), RangeError);
  });
});
