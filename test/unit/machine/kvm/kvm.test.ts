import assert from 'node:assert/strict';
import { describe, it } from 'vitest';
import { QEMU_TAP_OPEN, TUN_IOCTL_NAMES, TUNSETIFF } from '../../../../src/machine/host/tun-ioctls.ts';
import { KVM_IOCTL_NAMES } from '../../../../src/machine/kvm/ioctls.ts';
import { memorySlots } from '../../../../src/machine/kvm/memory-slots.ts';

describe('ioctl numbers', () => {
  // linux include/uapi/asm-generic/ioctl.h: direction << 30 | size << 16 | type << 8 | number.
  const io = (dir: number, type: number, nr: number, size: number): number =>
    ((dir << 30) | (size << 16) | (type << 8) | nr) >>> 0;
  it('are what the macros make of them', () => {
    const kvm: Record<string, number> = {
      KVM_CREATE_VM: io(0, 0xae, 0x01, 0),
      KVM_CHECK_EXTENSION: io(0, 0xae, 0x03, 0),
      KVM_GET_VCPU_MMAP_SIZE: io(0, 0xae, 0x04, 0),
      KVM_CREATE_VCPU: io(0, 0xae, 0x41, 0),
      KVM_SET_USER_MEMORY_REGION: io(1, 0xae, 0x46, 32),
      KVM_CREATE_IRQCHIP: io(0, 0xae, 0x60, 0),
      KVM_IRQ_LINE: io(1, 0xae, 0x61, 8),
      KVM_SET_GSI_ROUTING: io(1, 0xae, 0x6a, 8),
      KVM_IRQFD: io(1, 0xae, 0x76, 32),
      KVM_IOEVENTFD: io(1, 0xae, 0x79, 64),
      KVM_RUN: io(0, 0xae, 0x80, 0),
      KVM_SIGNAL_MSI: io(1, 0xae, 0xa5, 32),
    };
    assert.deepEqual(Object.fromEntries([...KVM_IOCTL_NAMES].map(([v, n]) => [n, v])), kvm);
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
