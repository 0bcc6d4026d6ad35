/** Register regions of a device, found through its own capabilities. */

import { describe, expect, it } from 'vitest';
import { deviceWindows } from '../../../src/lab/device-windows.ts';
import { VirtioMmioDevice } from '../../../src/machine/virtio/mmio-transport.ts';
import { VirtioPciDevice } from '../../../src/machine/virtio/pci-transport.ts';
import { BASIC_NET_FEATURES } from '../machine/virtio/basic-features.ts';

const MAC = [0x52, 0x54, 0, 0, 0, 1];
function device(vectors = 4): VirtioPciDevice {
  const made = new VirtioPciDevice({ mac: MAC, offered: BASIC_NET_FEATURES, queueSizes: [256, 256, 64], vectors });
  // as firmware leaves it: BAR 1 and 4 placed, decoding on
  made.writeConfig(0x14, 4, 0xfebc_0000);
  made.writeConfig(0x20, 4, 0xfe00_0000);
  made.writeConfig(0x04, 2, 3);
  return made;
}

describe('regions', () => {
  it('are those of the capabilities, each with the length that the capability gives', () => {
    const lengths = Object.fromEntries([...deviceWindows(device())].map(([name, w]) => [name, w.length]));
    expect(lengths).toEqual({
      common: 0x1000,
      isr: 0x1000,
      device: 0x1000,
      notify: 0x1000,
      pci: 256,
      // the table at 0, and the pending bits at 0x800
      msix: 0x808,
    });
    expect(deviceWindows(device(0)).has('msix')).toBe(false);
    expect(deviceWindows(device()).has('legacy')).toBe(false);
  });
  it('read and write what the device has there', () => {
    const d = device();
    const windows = deviceWindows(d);
    const common = windows.get('common')!;
    common.write(20, 1, 1);
    expect(d.status).toBe(1);
    expect(common.read(20, 1)).toBe(1);
    expect(common.read(18, 2)).toBe(3);
    expect([0, 1, 2, 3, 4, 5].map((i) => windows.get('device')!.read(i, 1))).toEqual(MAC);
    expect(windows.get('pci')!.read(0, 4)).toBe(0x1041_1af4);
    windows.get('msix')!.write(16, 4, 0xfee0_1004);
    expect(windows.get('msix')!.read(16, 4)).toBe(0xfee0_1004);
  });
  it('doorbells are a word for each queue, and where the guest sees them', () => {
    const notify = deviceWindows(device()).get('notify')!;
    expect([0, 1, 2].map((queue) => notify.doorbellOf(queue))).toEqual([0, 4, 8]);
    expect([0, 3, 4, 11, 12].map((offset) => notify.doorbell(offset, 0))).toEqual([0, 0, 1, 2, -1]);
    expect(notify.address(4)).toBe(0xfe00_3004);
    expect(deviceWindows(device()).get('common')!.doorbell(4, 0)).toBe(-1);
  });
  it('a read through pci_cfg_data is known as one that may change something', () => {
    const [range] = deviceWindows(device()).get('pci')!.readsWithEffect;
    expect(range).toEqual({ at: 0x94, end: 0x98 });
  });
  it('looking for them changes nothing, and a chain of capabilities that loops ends', () => {
    const d = device();
    d.isr = 1;
    const before = d.refused;
    deviceWindows(d);
    expect([d.isr, d.refused]).toEqual([1, before]);
    const looping = Object.create(d) as VirtioPciDevice;
    looping.readConfig = (offset, width) => (offset === 0x99 ? 0x98 : d.readConfig(offset, width));
    expect(deviceWindows(looping).has('msix')).toBe(true);
  });
  it('of a transitional device: also the registers behind the port, where the value names the queue', () => {
    const options = {
      mac: MAC,
      offered: BASIC_NET_FEATURES,
      queueSizes: [256, 256],
      flavour: 'transitional',
    } as const;
    const made = new VirtioPciDevice(options);
    made.writeConfig(0x10, 4, 0xc040);
    made.writeConfig(0x04, 2, 3);
    const windows = deviceWindows(made);
    expect([...windows.keys()]).toContain('common');
    const legacy = windows.get('legacy')!;
    expect([legacy.length, legacy.address(16), legacy.doorbellOf(1)]).toEqual([0x20, 0xc050, 16]);
    expect([legacy.doorbell(16, 1), legacy.doorbell(16, 2), legacy.doorbell(14, 1)]).toEqual([1, -1, -1]);
    legacy.write(18, 1, 1);
    expect([made.status, legacy.read(18, 1)]).toEqual([1, 1]);
  });
  it('of virtio-mmio: one window', () => {
    const offered = BASIC_NET_FEATURES;
    const made = new VirtioMmioDevice({ mac: MAC, offered, queueSizes: [256, 256], address: 0xfd00_0000, irq: 24 });
    const windows = deviceWindows(made);
    expect([...windows.keys()]).toEqual(['mmio']);
    const mmio = windows.get('mmio')!;
    expect([mmio.length, mmio.address(0x50), mmio.doorbellOf(1), mmio.read(0, 4)]).toEqual([
      0x200, 0xfd00_0050, 0x50, 0x7472_6976,
    ]);
    expect([mmio.doorbell(0x50, 1), mmio.doorbell(0x50, 2), mmio.doorbell(0x54, 1)]).toEqual([1, -1, -1]);
  });
});
