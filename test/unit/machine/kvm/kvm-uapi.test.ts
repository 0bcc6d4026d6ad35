/**
 * Numbers and layouts against what a program compiled with the headers of Linux 6.1 on x86-64 printed
 * (test/vectors/kvm/kvm-uapi.json).
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import * as K from '../../../../src/machine/wire/kvm.ts';

interface Uapi {
  readonly ioctls: readonly { readonly name: string; readonly value: string; readonly arg_size: number }[];
  readonly constants: Readonly<Record<string, number>>;
  readonly structs: Readonly<
    Record<
      string,
      { size: number; fields: readonly { readonly name: string; readonly offset: number; readonly size: number }[] }
    >
  >;
}
const uapi = JSON.parse(readFileSync(new URL('../../../vectors/kvm/kvm-uapi.json', import.meta.url), 'utf8')) as Uapi;
const ours = K as unknown as Record<string, unknown>;

/** Requests on a device's descriptor: none of KVM's devices is built in here. */
const NOT_HERE = ['KVM_SET_DEVICE_ATTR'];
/** Structures that have no name of their own here: entries by their kind, and the union of struct kvm_run by reason. */
const LAYOUTS: Readonly<Record<string, string>> = {
  struct_kvm_irq_routing_irqchip: '',
  struct_kvm_irq_routing_msi: '',
};

describe('ioctls', () => {
  it.each(uapi.ioctls.filter((i) => !NOT_HERE.includes(i.name)))('$name', ({ name, value, arg_size }) => {
    expect(ours[name]).toBe(Number(value));
    expect(K.KVM_IOCTL_NAMES.get(Number(value))).toBe(name);
    expect((Number(value) >>> 16) & 0x3fff).toBe(arg_size);
    const { argument } = K.KVM_IOCTLS.get(Number(value))!;
    if (argument !== null) expect((argument as { SIZE: number }).SIZE).toBe(arg_size);
  });
});

it('constants', () => {
  const named = Object.entries(uapi.constants).filter(([name]) => name in ours);
  expect(named.length).toBeGreaterThan(25);
  for (const [name, value] of named) expect(ours[name], name).toBe(value);
});

describe('structures', () => {
  const direct = Object.entries(uapi.structs).filter(([name]) => name !== 'struct_kvm_run' && !(name in LAYOUTS));
  it.each(direct)('%s', (name, { size, fields }) => {
    const layout = ours[name.replace('struct_', '')] as { SIZE: number } & Record<
      string,
      { offset: number; width: number }
    >;
    expect(layout.SIZE).toBe(size);
    for (const f of fields) {
      if (f.size === 0) continue; // the headers' flexible array, and a field that the program measured as part of a union
      assert.ok(f.name in layout, f.name);
      expect([layout[f.name]!.offset, layout[f.name]!.width], f.name).toEqual([f.offset, f.size]);
    }
  });
  it('struct kvm_run', () => {
    const { size, fields } = uapi.structs['struct_kvm_run']!;
    expect(K.KVM_RUN_SIZE).toBe(size);
    for (const f of fields) {
      const [member, field] = f.name.includes('.') ? f.name.split('.') : ['', f.name];
      const layout = (member === 'io'
        ? K.kvm_run_io
        : member === 'mmio'
          ? K.kvm_run_mmio
          : K.kvm_run) as unknown as Record<string, { offset: number; width: number }>;
      expect([layout[field!]!.offset, layout[field!]!.width], f.name).toEqual([f.offset, f.size]);
    }
  });
  it('a routing entry holds its union behind 16 bytes', () => {
    const u = K.kvm_irq_routing_entry.u.offset;
    expect(K.kvm_irq_routing_entry_irqchip.SIZE).toBe(K.kvm_irq_routing_entry.SIZE);
    expect(K.kvm_irq_routing_entry_msi.SIZE).toBe(K.kvm_irq_routing_entry.SIZE);
    expect([K.kvm_irq_routing_entry_irqchip.irqchip.offset, K.kvm_irq_routing_entry_irqchip.pin.offset]).toEqual([
      u,
      u + 4,
    ]);
    const { address_lo, address_hi, data } = K.kvm_irq_routing_entry_msi;
    expect([address_lo.offset, address_hi.offset, data.offset]).toEqual([u, u + 4, u + 8]);
  });
});

it('an argument is decoded into its fields', () => {
  const routing = new Uint8Array(8 + 48);
  const m = new DataView(routing.buffer);
  m.setUint32(0, 1, true);
  m.setUint32(8, 24, true);
  m.setUint32(12, K.KVM_IRQ_ROUTING_MSI, true);
  m.setUint32(24, 0xfee0_1004, true);
  m.setUint32(32, 0x4023, true);
  expect(K.kvmArgument(K.KVM_SET_GSI_ROUTING, routing)).toEqual({
    fields: { nr: 1, flags: 0 },
    entries: [{ gsi: 24, type: 2, flags: 0, address_lo: 0xfee0_1004, address_hi: 0, data: 0x4023, devid: 0 }],
  });
  const region = new Uint8Array(32);
  new DataView(region.buffer).setUint32(28, 0x7f00, true);
  expect(K.kvmArgument(K.KVM_SET_USER_MEMORY_REGION, region)!.fields).toEqual({
    slot: 0,
    flags: 0,
    guest_phys_addr: 0,
    memory_size: 0,
    userspace_addr: 0x7f00_0000_0000,
  });
  expect(K.kvmArgument(K.KVM_CREATE_VM, new Uint8Array(0))).toBeNull();
});
