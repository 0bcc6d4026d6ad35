import assert from 'node:assert/strict';
import fc from 'fast-check';
import { describe, it } from 'vitest';
import type { PciAccess, ProbeOptions, ProbeResult } from '../../../../../src/machine/guest/probe/probe-types.ts';
import {
  firmwareInit,
  LINUX_6_1_VIRTIO_NET_FEATURES,
  probeVirtioNet,
  SEABIOS_Q35_ASSIGNMENT,
} from '../../../../../src/machine/guest/probe/virtio-probe.ts';
import {
  type Features,
  featuresFromHex,
  featuresOf,
  minusFeatures,
  orFeatures,
  VIRTIO_F_VERSION_1,
  VIRTIO_NET_F_CTRL_RX,
  VIRTIO_NET_F_MAC,
} from '../../../../../src/machine/virtio/features.ts';
import { VirtioPciDevice, type VirtioPciOptions } from '../../../../../src/machine/virtio/pci-transport.ts';
import { virtio_pci_common_cfg } from '../../../../../src/machine/wire/pci.ts';
import { BASIC_NET_FEATURES } from '../../virtio/basic-features.ts';
import { BOOTS } from './golden-probe.ts';

const golden = (set: string): string[] => BOOTS[set]!.lines.split('\n');
const MAC = [0x52, 0x54, 0x00, 0x12, 0x34, 0x56];
const QEMU_OFFER = featuresFromHex('0x10130bfffa7');

/** Records accesses in the notation of the vectors. */
class Recorder implements PciAccess {
  readonly lines: string[] = [];
  readonly device: VirtioPciDevice;
  constructor(device: VirtioPciDevice) {
    this.device = device;
  }
  cfgRead(offset: number, width: number): number {
    const v = this.device.readConfig(offset, width);
    this.lines.push(`R pci_config[0x${offset.toString(16)}] 0x${v.toString(16)}`);
    return v;
  }
  cfgWrite(offset: number, width: number, value: number): void {
    this.lines.push(`W pci_config[0x${offset.toString(16)}] 0x${value.toString(16)}`);
    this.device.writeConfig(offset, width, value);
  }
  barRead(bar: number, offset: number, width: number): number {
    const v = this.device.readBar(bar, offset, width);
    this.lines.push(`R${width} ${register(bar, offset)} 0x${v.toString(16)}`);
    return v;
  }
  barWrite(bar: number, offset: number, width: number, value: number): void {
    this.lines.push(`W${width} ${register(bar, offset)} 0x${value.toString(16)}`);
    this.device.writeBar(bar, offset, width, value);
  }
}
function register(bar: number, offset: number): string {
  if (bar === 1) {
    return `msix_table.entry[${offset >> 4}].${['addr_lo', 'addr_hi', 'data', 'vector_control'][(offset & 15) >> 2]}`;
  }
  if (offset < 0x1000) {
    const found = Object.entries(virtio_pci_common_cfg).find(([, f]) => typeof f !== 'number' && f.offset === offset);
    return `common.${found?.[0]}`;
  }
  const at = offset - 0x2000;
  return at < 6 ? `device_cfg.mac[${at}]` : at === 6 ? 'device_cfg.status' : `bar4+0x${offset.toString(16)}`;
}
function run(
  options: Partial<VirtioPciOptions>,
  gpas: readonly number[],
  probe: ProbeOptions = {},
  wanted: Features = LINUX_6_1_VIRTIO_NET_FEATURES,
): { recorder: Recorder; device: VirtioPciDevice; result: ProbeResult } {
  const device = new VirtioPciDevice({ mac: MAC, offered: QEMU_OFFER, queueSizes: [256, 256, 64], ...options });
  const recorder = new Recorder(device);
  firmwareInit(recorder, SEABIOS_Q35_ASSIGNMENT);
  recorder.lines.length = 0;
  let n = 0;
  const result = probeVirtioNet(recorder, { alloc: () => gpas[n++] ?? -1 }, wanted, probe);
  return { recorder, device, result };
}
/** Without what bus enumeration reads before the driver comes. */
function afterEnumeration(lines: readonly string[]): readonly string[] {
  return lines.slice(lines.findIndex((l, i) => l.startsWith('R pci_config[0x4]') && lines[i + 1]?.includes('[0x3d]')));
}
const gpasOf = (lines: readonly string[]): number[] =>
  lines.filter((l) => l.startsWith('W4 common.queue_desc_lo')).map((l) => Number(l.split(' ')[2]));

describe('Linux probe, apart from the recorded option sets (golden-probe.test.ts)', () => {
  it('gives up as Linux does when control features come without the control queue', () => {
    const offered = featuresFromHex('0x10130bdffa7');
    const { recorder, result } = run({ offered }, []);
    const lines = afterEnumeration(recorder.lines);
    assert.deepEqual(lines, golden('ctrl_vq_off'));
    assert.deepEqual(result, { failed: 'features of the control queue without VIRTIO_NET_F_CTRL_VQ', status: 0x83 });
  });

  it('with what Ringside offers: only feature words, number of queues and addresses differ', () => {
    const want = golden('ctrl_vq_off_consistent')
      .map((l) => l.replace('device_feature 0x3001ffa3', 'device_feature 0x30018020'))
      .map((l) => l.replace('driver_feature 0x3001ffa3', 'driver_feature 0x30018020'))
      .map((l) => l.replace(/_feature 0x101$/, '_feature 0x1'))
      .map((l) => l.replace('num_queues 0x3', 'num_queues 0x2'));
    const { recorder, device } = run({ offered: BASIC_NET_FEATURES, queueSizes: [256, 256] }, gpasOf(want));
    assert.deepEqual(afterEnumeration(recorder.lines), want);
    assert.equal(device.refused, 0);
  });
});

describe('probe result', () => {
  it('names rings, notify registers, vectors and the MAC', () => {
    const { result, device } = run({ offered: BASIC_NET_FEATURES, queueSizes: [256, 1024] }, [0x10000, 0x20000], {
      queueSizes: [256, 256],
      firstVector: 0x31,
    });
    assert.ok(result.failed === undefined);
    assert.deepEqual(result.mac, MAC);
    assert.deepEqual(result.vectors, [0x31, 0x32, 0x33]);
    assert.equal(result.status, 0xf);
    assert.equal(result.linkUp, true);
    assert.deepEqual(result.queues[1], {
      index: 1,
      size: 256,
      descGpa: 0x20000,
      driverGpa: 0x21000,
      deviceGpa: 0x21240,
      notifyBar: 4,
      notifyOffset: 0x3004,
      msixVector: 2,
    });
    assert.deepEqual(
      device.queues.map((q) => [q.size, q.enabled, q.descGpa, q.driverGpa, q.deviceGpa, q.msixVector]),
      [
        [256, true, 0x10000, 0x11000, 0x11240, 1],
        [256, true, 0x20000, 0x21000, 0x21240, 2],
      ],
    );
    assert.deepEqual(device.msixMessage(2), { address: 0xfee0_1004, data: 0x33 });
    assert.equal(device.msixMessage(3), null);
  });

  it('takes a smaller set of features where the driver is told to', () => {
    const wanted = minusFeatures(LINUX_6_1_VIRTIO_NET_FEATURES, featuresOf(VIRTIO_NET_F_MAC));
    const { result } = run({ offered: BASIC_NET_FEATURES, queueSizes: [8, 8] }, [0x1000, 0x2000], {}, wanted);
    assert.ok(result.failed === undefined);
    assert.equal(result.mac, null);
    assert.deepEqual(result.features, minusFeatures(BASIC_NET_FEATURES, featuresOf(VIRTIO_NET_F_MAC)));
  });

  it('fails with a reason and FAILED in the status', () => {
    const noVersion = minusFeatures(BASIC_NET_FEATURES, featuresOf(VIRTIO_F_VERSION_1));
    assert.equal(run({ offered: noVersion }, []).result.status, 0x83);
    const noMemory = run({ offered: BASIC_NET_FEATURES }, []).result;
    assert.deepEqual(noMemory, { failed: 'queue 0: no memory for a ring of 256', status: 0x8b });
    const one = run({ offered: BASIC_NET_FEATURES, queueSizes: [256] }, [0x1000]).result;
    assert.deepEqual(one, { failed: 'queue 1 does not exist', status: 0x8b });
    const orphan = orFeatures(BASIC_NET_FEATURES, featuresOf(VIRTIO_NET_F_CTRL_RX));
    assert.equal(run({ offered: orphan }, []).result.status, 0x83);
  });

  it('never throws nor hangs on a device that answers anything', () => {
    fc.assert(
      fc.property(fc.infiniteStream(fc.nat(0xffff_ffff)), fc.boolean(), (values, msix) => {
        const next = (width: number): number => (values.next().value as number) % 2 ** (8 * width);
        const bus: PciAccess = {
          cfgRead: (o, w) => (o === 0 ? 0x1041_1af4 : o === 6 ? 0x10 : next(w)),
          cfgWrite: () => {},
          barRead: (_b, o, w) => (o === 0x14 ? 0 : next(w)),
          barWrite: () => {},
        };
        const result = probeVirtioNet(bus, { alloc: () => 0x1000 }, LINUX_6_1_VIRTIO_NET_FEATURES, { msix });
        assert.equal(typeof result.status, 'number');
      }),
      { numRuns: 200, verbose: 1 },
    );
  });
});
