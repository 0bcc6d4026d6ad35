import assert from 'node:assert/strict';
import fc from 'fast-check';
import { describe, it } from 'vitest';
import { arp, ethernet, isGroupMac, vlan_tag } from '../../../../src/machine/wire/ethernet.ts';
import { icmp_echo, ipv4, tcp, udp } from '../../../../src/machine/wire/ip.ts';
import {
  kvm_ioeventfd,
  kvm_irq_routing,
  kvm_irq_routing_entry_msi,
  kvm_irqfd,
  kvm_msi,
  kvm_userspace_memory_region,
} from '../../../../src/machine/wire/kvm.ts';
import {
  msix_capability,
  msix_entry,
  pci_capability,
  pci_header,
  virtio_pci_cap,
  virtio_pci_common_cfg,
} from '../../../../src/machine/wire/pci.ts';
import {
  be16,
  be32,
  bytes,
  le16,
  le32,
  le64,
  mac48,
  sle32,
  struct,
  u8,
  viewOf,
} from '../../../../src/machine/wire/struct.ts';
import {
  vhost_features,
  vhost_iotlb_msg,
  vhost_memory,
  vhost_memory_region,
  vhost_vring_addr,
  vhost_vring_file,
  vhost_vring_state,
} from '../../../../src/machine/wire/vhost.ts';
import {
  vhost_user_header,
  vhost_user_log,
  vhost_user_memory,
  vhost_user_memory_region,
  vhost_user_u64,
} from '../../../../src/machine/wire/vhost-user.ts';
import { virtio_net_config, virtio_net_hdr, virtio_net_hdr_v1 } from '../../../../src/machine/wire/virtio-net.ts';
import {
  isVirtqSize,
  virtq_avail,
  virtq_desc,
  virtq_used,
  virtq_used_elem,
  virtqAvailBytes,
  virtqDescBytes,
  virtqUsedBytes,
  vring_need_event,
  vringBytes,
  vringUsedOffset,
} from '../../../../src/machine/wire/virtio-ring.ts';

const offsets = (s: Record<string, unknown>): Record<string, number> =>
  Object.fromEntries(
    Object.entries(s).flatMap(([k, v]) =>
      typeof v === 'object' && v !== null && 'offset' in v ? [[k, (v as { offset: number }).offset]] : [],
    ),
  );
const view = (hex: string): DataView => viewOf(Buffer.from(hex.replaceAll(/\s/g, ''), 'hex'));
const hexOf = (m: DataView): string => Buffer.from(m.buffer, m.byteOffset, m.byteLength).toString('hex');

describe('sizes and offsets', () => {
  // From programs compiled against the kernel's headers, and from the specifications.
  const sizes: [string, { SIZE: number }, number][] = [
    ['virtq_desc', virtq_desc, 16],
    ['virtq_avail', virtq_avail, 4],
    ['virtq_used', virtq_used, 4],
    ['virtq_used_elem', virtq_used_elem, 8],
    ['virtio_net_hdr', virtio_net_hdr, 10],
    ['virtio_net_hdr_v1', virtio_net_hdr_v1, 12],
    ['virtio_net_config', virtio_net_config, 28],
    ['pci_header', pci_header, 64],
    ['pci_capability', pci_capability, 2],
    ['virtio_pci_cap', virtio_pci_cap, 16],
    ['virtio_pci_common_cfg', virtio_pci_common_cfg, 60],
    ['msix_capability', msix_capability, 12],
    ['msix_entry', msix_entry, 16],
    ['vhost_vring_state', vhost_vring_state, 8],
    ['vhost_vring_file', vhost_vring_file, 8],
    ['vhost_vring_addr', vhost_vring_addr, 40],
    ['vhost_memory', vhost_memory, 8],
    ['vhost_memory_region', vhost_memory_region, 32],
    ['vhost_features', vhost_features, 8],
    ['vhost_iotlb_msg', vhost_iotlb_msg, 32],
    ['vhost_user_header', vhost_user_header, 12],
    ['vhost_user_u64', vhost_user_u64, 8],
    ['vhost_user_memory', vhost_user_memory, 8],
    ['vhost_user_memory_region', vhost_user_memory_region, 32],
    ['vhost_user_log', vhost_user_log, 16],
    ['kvm_userspace_memory_region', kvm_userspace_memory_region, 32],
    ['kvm_ioeventfd', kvm_ioeventfd, 64],
    ['kvm_irqfd', kvm_irqfd, 32],
    ['kvm_irq_routing', kvm_irq_routing, 8],
    ['kvm_irq_routing_entry', kvm_irq_routing_entry_msi, 48],
    ['kvm_msi', kvm_msi, 32],
    ['ethernet', ethernet, 14],
    ['vlan_tag', vlan_tag, 4],
    ['arp', arp, 28],
    ['ipv4', ipv4, 20],
    ['icmp_echo', icmp_echo, 8],
    ['udp', udp, 8],
    ['tcp', tcp, 20],
  ];
  for (const [name, s, size] of sizes) it(`${name} is ${size} bytes`, () => assert.equal(s.SIZE, size));

  it('offsets that others rely on', () => {
    assert.deepEqual(offsets(virtio_pci_common_cfg), {
      device_feature_select: 0x00,
      device_feature: 0x04,
      driver_feature_select: 0x08,
      driver_feature: 0x0c,
      config_msix_vector: 0x10,
      num_queues: 0x12,
      device_status: 0x14,
      config_generation: 0x15,
      queue_select: 0x16,
      queue_size: 0x18,
      queue_msix_vector: 0x1a,
      queue_enable: 0x1c,
      queue_notify_off: 0x1e,
      queue_desc_lo: 0x20,
      queue_desc_hi: 0x24,
      queue_driver_lo: 0x28,
      queue_driver_hi: 0x2c,
      queue_device_lo: 0x30,
      queue_device_hi: 0x34,
      queue_notify_data: 0x38,
      queue_reset: 0x3a,
    });
    assert.deepEqual(offsets(vhost_vring_addr), {
      index: 0,
      flags: 4,
      desc_user_addr: 8,
      used_user_addr: 16,
      avail_user_addr: 24,
      log_guest_addr: 32,
    });
    assert.deepEqual(offsets(pci_header).capability_list, 0x34);
    assert.deepEqual(offsets(pci_header).interrupt_pin, 0x3d);
    assert.deepEqual(offsets(kvm_ioeventfd), { datamatch: 0, addr: 8, len: 16, fd: 20, flags: 24, pad: 28 });
  });
});

describe('vectors', () => {
  it('virtq_desc: addr 0x05789000, len 1536, WRITE, next 1 (posted receive buffer)', () => {
    const m = view('0090780500000000 00060000 0200 0100');
    assert.equal(virtq_desc.addr.get(m, 0), 0x0578_9000);
    assert.equal(virtq_desc.len.get(m, 0), 1536);
    assert.equal(virtq_desc.flags.get(m, 0), 2);
    assert.equal(virtq_desc.next.get(m, 0), 1);
  });
  it('avail and used rings with their event words, size 4', () => {
    const m = view('0100 0200 0300 0000 ffff 0000 0a00');
    assert.equal(virtq_avail.flags.get(m, 0), 1);
    assert.equal(virtq_avail.idx.get(m, 0), 2);
    assert.deepEqual(
      [0, 1, 2, 3].map((i) => virtq_avail.ring(m, 0, i)),
      [3, 0, 0xffff, 0],
    );
    assert.equal(virtq_avail.used_event(m, 0, 4), 10);
    const w = new DataView(new ArrayBuffer(virtqUsedBytes(2)));
    virtq_used.idx.set(w, 0, 1);
    virtq_used.setElem(w, 0, 0, 7, 110);
    virtq_used.setAvailEvent(w, 0, 2, 0x1234);
    assert.equal(hexOf(w), '00000100' + '070000006e000000' + '0000000000000000' + '3412');
    assert.deepEqual(
      [virtq_used.id(w, 0, 0), virtq_used.len(w, 0, 0), virtq_used.avail_event(w, 0, 2)],
      [7, 110, 0x1234],
    );
    const a = new DataView(new ArrayBuffer(virtqAvailBytes(2)));
    virtq_avail.setRing(a, 0, 1, 0x55aa);
    virtq_avail.setUsedEvent(a, 0, 2, 0xbeef);
    assert.equal(hexOf(a), '00000000' + '0000' + 'aa55' + 'efbe');
  });
  it('virtio_net_hdr_v1: checksum wanted at 34+6, TCPv4 segments of 1448, one buffer', () => {
    const m = new DataView(new ArrayBuffer(12));
    for (const [f, v] of [
      ['flags', 1],
      ['gso_type', 1],
      ['hdr_len', 66],
      ['gso_size', 1448],
    ] as const) {
      virtio_net_hdr_v1[f].set(m, 0, v);
    }
    virtio_net_hdr_v1.csum_start.set(m, 0, 34);
    virtio_net_hdr_v1.csum_offset.set(m, 0, 6);
    virtio_net_hdr_v1.num_buffers.set(m, 0, 1);
    assert.equal(hexOf(m), '01 01 4200 a805 2200 0600 0100'.replaceAll(' ', ''));
  });
  it('ARP request in an Ethernet frame', () => {
    const m = view(`ffffffffffff 525400000001 0806
      0001 0800 06 04 0001 525400000001 0a000001 000000000000 0a000002`);
    assert.equal(ethernet.dst.get(m, 0), 0xffff_ffff_ffff);
    assert.equal(ethernet.src.get(m, 0), 0x5254_0000_0001);
    assert.equal(ethernet.type.get(m, 0), 0x0806);
    assert.equal(arp.oper.get(m, 14), 1);
    assert.equal(arp.spa.get(m, 14), 0x0a00_0001);
    assert.equal(arp.tpa.get(m, 14), 0x0a00_0002);
    assert.equal(arp.sha.get(m, 14), 0x5254_0000_0001);
    assert.ok(isGroupMac(0x0100_5e00_0001) && !isGroupMac(0x5254_0000_0001));
  });
  it('IPv4 with UDP', () => {
    const m = view('45000020 1c464000 4011 4e85 0a000001 0a000002 1f90 0035 000c 0000');
    assert.equal(ipv4.version_ihl.get(m, 0), 0x45);
    assert.equal(ipv4.total_length.get(m, 0), 32);
    assert.equal(ipv4.protocol.get(m, 0), 17);
    assert.equal(ipv4.src.get(m, 0), 0x0a00_0001);
    assert.deepEqual([udp.source.get(m, 20), udp.dest.get(m, 20), udp.len.get(m, 20)], [8080, 53, 12]);
  });
  it('ICMP echo request', () => {
    const m = view('08 00 f7fd 0001 0001');
    assert.deepEqual([icmp_echo.type.get(m, 0), icmp_echo.id.get(m, 0), icmp_echo.sequence.get(m, 0)], [8, 1, 1]);
  });
  it('KVM_IOEVENTFD for a notify register', () => {
    const m = new DataView(new ArrayBuffer(64));
    kvm_ioeventfd.addr.set(m, 0, 0xfebf_f000);
    kvm_ioeventfd.fd.set(m, 0, 17);
    assert.equal(hexOf(m), '0000000000000000' + '00f0bffe00000000' + '00000000' + '11000000' + '00'.repeat(40));
  });
  it('vhost_vring_file -1', () => {
    const m = view('01000000 ffffffff');
    assert.equal(vhost_vring_file.fd.get(m, 0), -1);
  });
});

describe('ring arithmetic', () => {
  it('is that of the recorded guest', () => {
    assert.equal(vringUsedOffset(256), 0x1240);
    assert.equal(vringUsedOffset(64), 0x4c0);
    assert.equal(virtqDescBytes(256) + virtqAvailBytes(256), 0x1206);
    assert.equal(vringBytes(256), 0x1240 + 2054);
    assert.equal(vringUsedOffset(256, 4096), 0x2000);
  });
  it('sizes', () => {
    assert.deepEqual([1, 2, 256, 32768].map(isVirtqSize), [true, true, true, true]);
    assert.deepEqual([0, 3, 65536, -2, 1.5, Number.NaN].map(isVirtqSize), Array(6).fill(false));
  });
  it('need_event: crossed the event index since the last look', () => {
    assert.equal(vring_need_event(5, 6, 5), true);
    assert.equal(vring_need_event(5, 5, 4), false);
    assert.equal(vring_need_event(0xffff, 0, 0xffff), true);
    fc.assert(
      fc.property(fc.nat(0xffff), fc.nat(0xffff), fc.nat(300), (event, old, n) => {
        const passed = Array.from({ length: n }, (_, i) => (old + i) & 0xffff).includes(event);
        assert.equal(vring_need_event(event, (old + n) & 0xffff, old), passed);
      }),
      { verbose: 1 },
    );
  });
});

describe('fields', () => {
  it('read back what was written and touch nothing else', () => {
    const cases = [
      [u8, 0xff],
      [le16, 0xffff],
      [be16, 0xffff],
      [le32, 0xffff_ffff],
      [be32, 0xffff_ffff],
      [le64, Number.MAX_SAFE_INTEGER],
      [mac48, 0xffff_ffff_ffff],
    ] as const;
    for (const [field, max] of cases) {
      fc.assert(
        fc.property(
          fc.maxSafeNat().map((v) => v % (max + 1)),
          fc.nat(5),
          (value, at) => {
            const m = new DataView(new ArrayBuffer(16));
            const s = struct({ pad: bytes(1), field });
            s.field.set(m, at, value);
            assert.equal(s.field.get(m, at), value);
            const rest = [...new Uint8Array(m.buffer)].filter((_, i) => i < at + 1 || i >= at + 1 + field.width);
            assert.ok(rest.every((b) => b === 0));
          },
        ),
        { verbose: 1, numRuns: 50 },
      );
    }
  });
  it('a 64-bit value of 2^53 or more reads as -1 and cannot be written', () => {
    assert.equal(le64.get(view('0000000000002000'), 0), -1);
    assert.equal(le64.get(view('ffffffffffffffff'), 0), -1);
    assert.equal(le64.get(view('ffffffffffff1f00'), 0), Number.MAX_SAFE_INTEGER);
    const m = new DataView(new ArrayBuffer(8));
    for (const v of [-1, 2 ** 53, 1.5, Number.NaN]) assert.throws(() => le64.set(m, 0, v), RangeError);
  });
  it('bytes clear, signed fields keep the sign', () => {
    const m = view('ffffffffffffffff');
    bytes(3).set(m, 1, 0);
    assert.equal(hexOf(m), 'ff000000ffffffff');
    assert.equal(sle32.get(m, 4), -1);
  });
});
